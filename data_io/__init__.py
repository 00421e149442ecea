"""Bytes to arrays: files, data sets, splits and the records that travel between stages. Knows no model."""
