"""Results of several studies side by side."""
