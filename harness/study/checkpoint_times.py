"""How often cells save checkpoints, if nobody says."""

SECONDS = 30.0  # between two of them, or more,
SHARE = 0.02  # so that they take no larger share of the time: those of twelve large cells take many seconds
