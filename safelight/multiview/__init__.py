"""Several views of one thing: rigs of cameras, what networks are told of them, and bundles for other programs."""
