"""What the sweep wrote to `results/<study>/`, and the tables made of it, read and checked."""
