"""Draw synthetic products, their photographs and whole data sets (for demos and tests)."""
