"""A page to play with momentum: its path, its rate, its kernel and its stability, linked."""

from typing import TYPE_CHECKING

from momentax._core.lazy import lazy_exports

if TYPE_CHECKING:
    from momentax.explorer._page import page as page

__getattr__, __dir__, __all__ = lazy_exports(__name__)
