"""One idea per file: embeddings or logits and labels in, one number out. Knows TensorFlow only."""
