"""Compute losses, one per file, from embeddings or logits and labels; `build.py` builds them."""
