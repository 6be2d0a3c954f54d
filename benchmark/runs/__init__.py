"""One run, from what is asked to its record."""
