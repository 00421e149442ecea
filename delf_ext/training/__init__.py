"""Train any model of any recipe: one Keras `fit` per epoch, checkpoints that survive a kill."""
