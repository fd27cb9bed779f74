"""The convention of Optax: its hyperparameters and its states."""
