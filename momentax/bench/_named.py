"""Tasks and entries by their names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from momentax._core.arguments import describe

T = TypeVar("T")


class Named(Mapping[str, T]):
    """Things by their names, in a fixed order; an unknown name is answered by all names."""

    def __init__(self, noun: str, *things: Any) -> None:
        self._noun, self._things = noun, {each.name: each for each in things}

    def __getitem__(self, name: str) -> T:
        try:
            return self._things[name]
        except (KeyError, TypeError):
            known = ", ".join(map(repr, self._things))
            wrong = f"there is no {self._noun} {describe(name)}; the names are {known}"
            raise KeyError(wrong) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._things)

    def __len__(self) -> int:
        return len(self._things)

    def __repr__(self) -> str:
        return "\n".join(map(repr, self._things.values()))
