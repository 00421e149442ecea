"""Trunks: photographs to named feature maps. `trunk.py` is the contract, one file per library that builds them."""
