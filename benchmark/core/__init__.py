"""What a method and a dataset are."""
