"""Training: objectives, loop, checkpoints, and the default model from nothing."""
