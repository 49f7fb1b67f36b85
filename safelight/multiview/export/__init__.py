"""Formats of other programs: one file each writes a bundle, and reads cameras back."""
