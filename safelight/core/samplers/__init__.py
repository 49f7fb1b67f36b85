"""One file per mathematical family of samplers, and the table of their names."""
