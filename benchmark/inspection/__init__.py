"""One thing looked at: a method, data, a machine, a query."""
