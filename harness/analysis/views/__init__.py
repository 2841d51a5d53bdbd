"""The tables as figures and sentences read them."""
