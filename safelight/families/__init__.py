"""One folder per diffusion architecture."""
