"""Train the model of a recipe: one Keras `fit` per epoch, with checkpoints to resume from."""
