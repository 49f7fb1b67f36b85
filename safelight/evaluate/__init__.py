"""Scores, distances and timings, each written to a file by a command."""
