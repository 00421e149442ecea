"""Build trunks, from images to named feature maps.

`trunk.py` defines the interface; each library of trunks has a file of its own.
"""
