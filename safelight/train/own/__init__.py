"""Training on one's own pictures: a folder of them with captions, and what is learned from it."""
