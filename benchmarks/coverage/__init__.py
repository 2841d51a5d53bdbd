"""Whether intervals and verdicts of the report are right as often as they say: studies whose effects are known."""
