"""The page that shows a run: what was measured, and pictures to look at."""
