"""The report of an evaluation: an HTML page, its plots, and comparisons of runs."""
