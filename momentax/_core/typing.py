"""The few types that signatures share."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

Scalar = float | np.generic | np.ndarray | jax.Array
Schedule = Callable[[Any], Any]
ScalarOrSchedule = Scalar | Schedule
PyTree = Any
