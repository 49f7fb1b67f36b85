"""Small networks that read a picture once and say what to add on the U-Net's way down."""
