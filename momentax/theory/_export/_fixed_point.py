"""Why a transformation with weight decay has no export to analyses around a minimizer."""

WITH_DECAY = (
    "tx does not stay at a parameter where the gradient is zero, as with weight decay; leave the "
    "decay out of tx and count it as a part of the function, whose curvatures it raises"
)
