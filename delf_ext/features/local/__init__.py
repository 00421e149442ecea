"""Extract local features: DELF and SIFT keypoints, descriptors and their whitening."""
