"""The ground that every room stands on: checks, trees, arithmetic, XLA. It imports no room."""
