"""Builder of the dataset ``emoji``: from drawings, names and speech to one feature file; see README.md."""
