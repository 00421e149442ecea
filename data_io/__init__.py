"""Read files and data sets, split them, and define the records that stages pass to each other.

This package knows no model.
"""
