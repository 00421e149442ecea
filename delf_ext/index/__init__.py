"""Search structures over embeddings: query and gallery features in, a Ranking out."""
