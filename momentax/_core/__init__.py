"""Shared foundations: checks of arguments, trees, arithmetic, XLA. It imports nothing above it."""
