"""What can be said about stored runs: spread, agreement with published values, significance, ranks.

The statistics are functions on numpy arrays; nothing here imports torch.
"""
