"""The convention of PyTorch: its hyperparameters, its optimizer and its state."""
