"""How any transformation's velocity is kept: in 4 bytes an entry, in 2 or in 1."""

from momentax.storage._bytes import bytes_per_parameter
from momentax.storage._storages import Storage, bfloat16, int8
from momentax.storage._stored import StoredState, stored

__all__ = ["Storage", "StoredState", "bfloat16", "bytes_per_parameter", "int8", "stored"]
