"""Ablation studies of sparse autoencoders: define a grid, run it to the end, compare with intervals."""
