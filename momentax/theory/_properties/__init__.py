"""Properties of a linear system: rates, stability, damping, noise and responses."""
