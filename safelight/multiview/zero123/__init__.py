"""Zero123, Zero123-XL and Stable Zero123: one picture, and the camera's way from it to each view."""
