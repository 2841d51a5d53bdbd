"""The life of latents: when they die and revive in training, by arm, and what levels change about it."""
