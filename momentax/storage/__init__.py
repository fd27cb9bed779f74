"""Storage of the velocity of any transformation in 4, 2 or 1 bytes an entry."""

from momentax.storage._bfloat16 import bfloat16 as bfloat16
from momentax.storage._bytes import bytes_per_parameter as bytes_per_parameter
from momentax.storage._int8 import int8 as int8
from momentax.storage._storage import Storage as Storage
from momentax.storage._stored import StoredState as StoredState
from momentax.storage._stored import stored as stored

__all__ = ["Storage", "StoredState", "bfloat16", "bytes_per_parameter", "int8", "stored"]
