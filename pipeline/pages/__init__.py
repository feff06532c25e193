"""The HTML pages of runs and verdicts."""
