"""The mathematics of diffusion: torch only, no modules, no files, no clock."""
