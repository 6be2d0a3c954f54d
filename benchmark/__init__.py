"""The harness: knows what a method and a dataset are, and knows none by name."""
