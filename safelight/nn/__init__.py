"""The vocabulary of layers that every network is written in."""
