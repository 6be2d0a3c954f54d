"""What every method and dataset must keep."""
