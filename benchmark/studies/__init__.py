"""Many runs, read side by side."""
