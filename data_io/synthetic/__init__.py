"""Draw synthetic products, their photographs and complete data sets (for demos and tests)."""
