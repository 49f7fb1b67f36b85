"""MV-Adapter: views from a frozen U-Net of Stable Diffusion 2.1 or XL, by branches beside its self-attention."""
