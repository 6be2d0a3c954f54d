"""Every command: options are read here, the work is done elsewhere."""
