"""Stable Cascade: a prior draws features of a picture, a decoder draws latents of them, stage A decodes those."""
