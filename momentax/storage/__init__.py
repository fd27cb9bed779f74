"""Storage of the velocity of any transformation in 2 bytes or in 1 byte an entry."""

from typing import TYPE_CHECKING

from momentax._core.lazy import lazy_exports

if TYPE_CHECKING:  # lazy_exports reads these lines: each name is imported when it is first used.
    from momentax.storage._bfloat16 import bfloat16 as bfloat16
    from momentax.storage._bytes import bytes_per_parameter as bytes_per_parameter
    from momentax.storage._int8 import int8 as int8
    from momentax.storage._storage import Storage as Storage
    from momentax.storage._stored import stored as stored

__getattr__, __dir__, __all__ = lazy_exports(__name__)
