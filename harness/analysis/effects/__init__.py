"""What levels of axes do: differences between arms, models of many arms, and the verdicts on them."""
