"""Embeddings and scores to metrics."""
