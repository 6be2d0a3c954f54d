"""The harness: knows what a method and a dataset are, and knows none by name."""

import os

# Threads that wait for each other by spinning waste the core they wait for: beside another program on a
# two-core machine training took twenty times as long. Spinning briefly costs nothing on a quiet machine. Has
# to be set before torch is imported; a setting of the user's own stands.
if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ):
    os.environ["GOMP_SPINCOUNT"] = "1000"
