"""What a maintainer runs: builders of feature files that ship with the suite."""
