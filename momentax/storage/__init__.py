"""How any transformation's velocity is kept: in 4 bytes an entry, in 2 or in 1."""

from typing import TYPE_CHECKING

from momentax._core.lazy import lazy_exports

if TYPE_CHECKING:  # Each name is imported when it is first used: see lazy_exports.
    from momentax.storage._bytes import bytes_per_parameter as bytes_per_parameter
    from momentax.storage._storages import Storage as Storage
    from momentax.storage._storages import bfloat16 as bfloat16
    from momentax.storage._storages import int8 as int8
    from momentax.storage._stored import StoredState as StoredState
    from momentax.storage._stored import stored as stored

__getattr__, __dir__, __all__ = lazy_exports(__name__)
