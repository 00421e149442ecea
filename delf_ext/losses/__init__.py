"""One loss per file: an embedding or logits with labels in, one number out. `build.py` makes them from a recipe."""
