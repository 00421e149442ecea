"""Decode image files: recognise the format, check that it is complete, convert it to RGB."""
