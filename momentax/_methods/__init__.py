"""Methods map gradients to directions; everything else composes."""
