"""Build trunks, from images to named feature maps.

`trunk.py` defines the interface; each library of trunks has its own file.
"""
