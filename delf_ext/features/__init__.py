"""Extract features of images: embedders, and their use on whole lists of images."""
