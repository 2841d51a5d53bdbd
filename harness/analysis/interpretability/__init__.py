"""What sampled latents mean: tables, figures, sentences and warnings from their scores."""
