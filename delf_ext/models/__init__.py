"""Build networks: images in, an embedding and named feature maps out."""
