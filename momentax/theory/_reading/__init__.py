"""Read the linear system that a transformation is."""
