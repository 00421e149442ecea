"""Makes a network better at a data set: one Keras `fit` per epoch, checkpoints that survive a kill."""
