"""The types that signatures share."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

Scalar = float | np.generic | np.ndarray | jax.Array
Schedule = Callable[[Any], Any]
ScalarOrSchedule = Scalar | Schedule
PyTree = Any
Reals = NDArray[np.float64]
