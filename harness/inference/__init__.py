"""Statistics of arms that were trained on a few seeds each: pure functions of numbers (docs/statistics.md)."""
