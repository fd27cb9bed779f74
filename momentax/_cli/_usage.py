"""The methods that the commands accept, and the error for a mistake in their arguments."""

METHODS = ("heavy_ball", "nesterov", "average", "quasi_hyperbolic")
WITHOUT_BETA = "gradient_descent"


class UsageError(Exception):
    """A mistake in the arguments of a command, as a sentence for the person who typed them."""
