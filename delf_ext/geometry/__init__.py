"""From local features to geometric evidence: matching, transforms, RANSAC, verification. NumPy and numba only."""
