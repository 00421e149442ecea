"""Match local features, fit plane transforms with RANSAC and verify pairs of images."""
