"""Search the hyperparameters of a family of transformations."""
