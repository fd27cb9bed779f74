"""Reading and changing the states of optimizers."""
