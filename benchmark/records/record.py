"""The run record."""

from __future__ import annotations

FIELDS = ("schema", "key", "comparability", "method", "recipe", "dataset", "profile", "seeds", "results")


SCHEMA = 2
"""Version of the record's layout; part of every key."""
