"""The convention of Keras: its hyperparameters, its optimizer and its state."""
