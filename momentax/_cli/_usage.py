"""The methods and problems that the commands accept, and the error for a wrong argument."""

METHODS = ("heavy_ball", "nesterov", "average", "quasi_hyperbolic")
WITHOUT_BETA = "gradient_descent"
PROBLEMS = ("ravine", "rosenbrock", "plateau")
# The methods that need no argument beyond their defaults, and the gradient only.
RACERS = (
    "accelerated",
    "accelerated_sgd",
    "adan",
    "aggregated",
    "amplified",
    "average",
    "generalized_primal_averaging",
    "heavy_ball",
    "lion",
    "mars",
    "mass",
    "momentum_polyak",
    "nadam",
    "nesterov",
    "overshoot",
    "positive_negative",
    "primal_averaging",
    "proportional_integral_derivative",
    "quasi_hyperbolic",
    "quasi_hyperbolic_adam",
    "sign_average",
    "torque_aware",
    WITHOUT_BETA,
)
# What `momentax bench` runs, in the order of its tables.
TASKS = (
    "digits_cnn",
    "unicode_bn",
    "ridge",
    "names_char",
    "names_embed",
    "curves_ae",
    "spiral_deep",
    "poisson_pinn",
)
ENTRIES = (
    "sgd",
    "heavy_ball",
    "nesterov",
    "quasi_hyperbolic",
    "aggregated",
    "kernel",
    "annealed",
    "restart",
    "lion",
    "signum",
    "adam",
    "nadam",
    "adan",
    "muon",
    "schedule_free",
)


class UsageError(Exception):
    """A mistake in the arguments of a command, as a sentence for the person who typed them."""
