"""Hints made of pictures without any network: edges, blur, tiles, and what was measured elsewhere."""
