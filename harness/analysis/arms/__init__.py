"""Arms: the cells that each is made of, its figures with their intervals, and how its setting was chosen."""
