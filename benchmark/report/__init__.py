"""Tables and figures of stored runs, beside the published numbers.

Nothing here trains; what a report lacks is computed by the runner first. Everything is worked out from stored
records, so that one set of runs gives every format.
"""
