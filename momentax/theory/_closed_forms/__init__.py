"""Formulas of hyperparameters alone; no transformation is read."""
