"""Generated data with the shapes of published ones."""
