"""What the tables say, in words: the answer, the findings, and what weakens them."""
