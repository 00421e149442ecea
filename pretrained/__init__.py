"""Describe, download and convert pretrained weights."""
