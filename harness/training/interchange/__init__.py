"""Trained SAEs in the formats of other packages."""
