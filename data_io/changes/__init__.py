"""Random changes of training images, one function for each; `data_io.augmentation` applies them."""
