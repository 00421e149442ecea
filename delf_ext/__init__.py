"""The method: models, losses, training, features, index, re-ranking and evaluation of product retrieval."""
