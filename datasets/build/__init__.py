"""Builders of the feature files that ship with the suite; run by a maintainer, never needed to use them."""
