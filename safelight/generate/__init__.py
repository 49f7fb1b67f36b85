"""Tasks: from a request to a picture with its recipe."""
