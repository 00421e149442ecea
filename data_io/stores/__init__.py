"""Store on disk what was computed from images: embeddings, local features and decoded pixels."""
