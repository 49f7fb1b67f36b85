"""Zero123++: six views of one rig, tiled into one picture that the plain U-Net of Stable Diffusion 2 draws."""
