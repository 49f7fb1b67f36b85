"""The Stable Diffusion family."""
