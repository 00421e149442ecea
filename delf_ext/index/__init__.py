"""Search embeddings: take the features of queries and a gallery, and return a Ranking."""
