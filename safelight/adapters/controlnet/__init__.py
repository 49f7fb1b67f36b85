"""Networks that read a picture and say what to add to the U-Net's skip connections."""
