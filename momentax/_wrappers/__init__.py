"""Wrappers change what any Optax transformation does with its velocity or its updates."""
