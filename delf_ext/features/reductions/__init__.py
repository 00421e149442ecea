"""Fit linear reductions of embeddings. Uses NumPy and SciPy only."""
