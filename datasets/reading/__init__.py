"""Feature files: found, read, cut."""
