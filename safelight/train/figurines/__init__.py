"""The default model from nothing: portraits, words, autoencoder, U-Net, export."""
