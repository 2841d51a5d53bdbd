"""What else differs between compared arms, and each effect with one of these things held equal."""
