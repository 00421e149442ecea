"""Measure rankings, compare methods, and draw their results."""
