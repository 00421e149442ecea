"""Networks: images in, an embedding and named endpoints out."""
