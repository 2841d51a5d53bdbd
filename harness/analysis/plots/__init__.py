"""One file a figure: `draw(view)` makes a Figure of the tables, None where there is nothing to show."""
