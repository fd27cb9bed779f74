"""What each parameter is: a hidden matrix, an embedding, the head, a vector."""

from __future__ import annotations

import difflib
import fnmatch
import html
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from momentax._core import trees
from momentax._core.arguments import describe, dtype_of
from momentax._core.typing import PyTree
from momentax._state._names import join_names, leaf_names
from momentax._state._role_rules import ORTHOGONALIZED, ROLES, Leaf, guess

_COLUMNS = ("parameter", "shape", "role", "as a matrix", "why")


class Roles(Mapping[str, str]):
    """What each parameter is: a mapping from its name to its role, printed as a table.

    The names are those of `momentax.velocity_norms`, such as "decoder/kernel". A role
    with a question mark in the table is in doubt; `doubtful` lists the names.
    """

    def __init__(self, leaves: list[Leaf]) -> None:
        self._leaves = dict(zip(join_names([x.name for x in leaves], "/"), leaves, strict=True))

    def __getitem__(self, name: str) -> str:
        return self._leaves[name].role

    def __iter__(self) -> Iterator[str]:
        return iter(self._leaves)

    def __len__(self) -> int:
        return len(self._leaves)

    @property
    def doubtful(self) -> tuple[str, ...]:
        """The names of the parameters whose role is in doubt."""
        return tuple(name for name, leaf in self._leaves.items() if leaf.doubt)

    @property
    def leaves(self) -> Mapping[str, Leaf]:
        """What is known of each parameter, by its name."""
        return dict(self._leaves)

    def _rows(self) -> list[tuple[str, ...]]:
        return [_row(name, leaf) for name, leaf in self._leaves.items()]

    def __repr__(self) -> str:
        rows = [_COLUMNS, *self._rows()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        return "\n".join([*lines, *self._notes()])

    def _repr_html_(self) -> str:
        def line(cells: tuple[str, ...], tag: str) -> str:
            return "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)

        body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in self._rows())
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self._notes())
        head = f"<thead><tr>{line(_COLUMNS, 'th')}</tr></thead>"
        return f"<table>{head}<tbody>{body}</tbody></table>{notes}"

    def _notes(self) -> list[str]:
        notes = []
        if self.doubtful:
            name = self.doubtful[0]
            other = "hidden" if self[name] != "hidden" else "head"
            notes.append(f"? in doubt; correct it with, for example, roles={{{name!r}: {other!r}}}")
        if "hidden" in self.values() and "head" not in self.values():
            notes.append("no head was found: if a parameter is it, say so with roles={...: 'head'}")
        return notes


def _row(name: str, leaf: Leaf) -> tuple[str, ...]:
    shape = " × ".join(map(str, leaf.shape)) or "scalar"
    matrix = ""
    if leaf.role != "vector":
        count, inputs, outputs = leaf.matrix
        several = f"{count} of " if "b" in leaf.axes else ""
        matrix = f"{leaf.axes}: {several}{inputs} → {outputs}"
    doubt = f"; {leaf.doubt}" if leaf.doubt else ""
    return (
        name or "(root)",
        shape,
        f"{leaf.role}{' ?' if doubt else ''}",
        matrix,
        f"{leaf.reason}{doubt}",
    )


def roles(params: PyTree, overrides: Mapping[str, str] | None = None) -> Roles:
    """Decide what each parameter is, and print the decisions as a table.

    Roles, of which `momentax.muon` orthogonalizes the first two:

        hidden         a matrix between hidden layers
        convolution    the kernel of a convolution, a matrix from all of its inputs to its outputs
        depthwise      the kernel of a depthwise convolution
        embedding      a table of embeddings or of positions
        head           the last layer, whose outputs are the model's
        router         the layer that chooses experts
        vector         a bias, a gain, a scalar

    A role is decided by names first ("lm_head", "embedding", "scale"), then by shapes and
    by neighbours: a bias shows which axis of its kernel is that of the outputs, and biases
    and gains with one axis more than usual show that `nn.scan` has stacked layers. Kernels
    are read as those of Flax and Haiku, (..., inputs, outputs), and arrays called "weight"
    as those of Equinox and PyTorch, (outputs, inputs, ...), unless the bias shows
    otherwise.

    What names and shapes do not tell, the table cannot know: which layer reads the inputs
    of the model; that a layer with an ordinary name is the head, unless it is the last of
    several numbered ones; that a matrix holds several, such as fused queries, keys and
    values; that a convolution has groups. A guess that may be wrong has a question mark.

    Args:
        params: The parameters, or what `jax.eval_shape` returns for them; of any
            container: dicts, NNX, Linen, Haiku, Equinox.
        overrides: A dict from names to roles, which correct the guesses, such as
            {"decoder/kernel": "head"}. A name may be that of a parameter or of a module,
            which stands for all parameters in it, or a pattern with * and ?; the longest
            that matches decides. A module or a pattern leaves vectors as they are. After a
            role there may be a letter for each axis, as in "hidden bio": b numbers separate
            matrices (those of layers, heads or experts), i belongs to the inputs and o to
            the outputs. The table of another call is taken as well. None corrects nothing.

    Returns:
        A mapping from the name of each parameter to its role, which prints as a table.

    Raises:
        ValueError: A name of overrides matches no parameter, a role is unknown, or the
            axes do not fit a parameter.
        TypeError: A parameter is neither floating nor complex, or overrides is no dict of
            strings.

    Example:
        >>> layers = {"dense": {"kernel": jnp.ones((3, 4)), "bias": jnp.ones(4)}}
        >>> momentax.roles(layers | {"head": {"kernel": jnp.ones((4, 2))}})["head/kernel"]
        'head'
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(trees.only_arrays(params)):
        dtype = getattr(leaf, "dtype", None) or dtype_of(leaf)
        if dtype is None or not jnp.issubdtype(dtype, jnp.inexact):
            raise TypeError(
                f"the parameter at {trees.path_name(path)} has dtype {dtype}, and roles are those "
                f"of floating or complex ones; {trees.ARRAYS}"
            )
    return Roles(find_roles("overrides", params, overrides))


def find_roles(argument: str, params: PyTree, overrides: Mapping[str, str] | None) -> list[Leaf]:
    """Return what each parameter is, in the order of the leaves; `argument` has the overrides."""
    arrays = trees.only_arrays(params)
    names = [tuple("/".join(parts).split("/")) for parts in leaf_names(arrays)]
    shapes = [tuple(np.shape(leaf)) for leaf in jax.tree.leaves(arrays)]
    leaves = guess(list(zip(names, shapes, strict=True)))
    if overrides is None:
        return leaves
    if isinstance(overrides, Roles):
        overrides = {
            name: x.role if x.role == "vector" else f"{x.role} {x.axes}"
            for name, x in overrides.leaves.items()
        }
    require_overrides(argument, overrides)
    known = [leaf.path for leaf in leaves]
    for pattern in overrides:
        if not any(_matches(pattern, name) for name in known):
            raise ValueError(_unknown(argument, pattern, known))
    return [_correct(argument, leaf, overrides) for leaf in leaves]


def require_overrides(argument: str, overrides: Any) -> None:
    """Refuse what is no dict from names to roles, or has an unknown role."""
    if not isinstance(overrides, Mapping):
        raise TypeError(
            f"{argument} must be a dict from names of parameters to roles, such as "
            f'{{"decoder/kernel": "head"}}, got {describe(overrides)}'
        )
    for pattern, text in overrides.items():
        if not isinstance(pattern, str) or not isinstance(text, str):
            raise TypeError(
                f"{argument} must map names to roles, both strings, got {describe(pattern)}: "
                f"{describe(text)}"
            )
        role, _, axes = text.partition(" ")
        if role not in ROLES:
            close = difflib.get_close_matches(role, ROLES, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            listed = ", ".join(map(repr, ROLES))
            raise ValueError(
                f"{argument}[{pattern!r}] must be one of {listed}, got {describe(text)}{hint}"
            )
        if axes and (set(axes) - set("bio") or not {"i", "o"} <= set(axes)):
            raise ValueError(
                f"{argument}[{pattern!r}] must have a letter b, i or o for each axis after the "
                f'role, at least one i and one o, as in "hidden io", got {describe(text)}'
            )


def _matches(pattern: str, name: str) -> bool:
    return name == pattern or name.startswith(f"{pattern}/") or fnmatch.fnmatchcase(name, pattern)


def _unknown(argument: str, pattern: str, known: list[str]) -> str:
    modules = {
        "/".join(name.split("/")[:n]) for name in known for n in range(1, name.count("/") + 1)
    }
    close = difflib.get_close_matches(pattern, [*known, *sorted(modules)], 3, cutoff=0.5)
    listed = close or known[:8]
    more = ", ..." if not close and len(known) > 8 else ""
    near = "the nearest names are" if close else "the names are"
    names = ", ".join(map(repr, listed)) + more if known else "none, as there are no parameters"
    return f"{argument} has the name {pattern!r}, which matches no parameter; {near} {names}"


def _correct(argument: str, leaf: Leaf, overrides: Mapping[str, str]) -> Leaf:
    """Return a parameter with the role that the longest matching name gives it."""
    found = [pattern for pattern in overrides if _matches(pattern, leaf.path)]
    if not found:
        return leaf
    pattern = leaf.path if leaf.path in found else max(found, key=len)
    if pattern != leaf.path and leaf.role == "vector":
        return leaf
    role, _, axes = overrides[pattern].partition(" ")
    if axes and len(axes) != len(leaf.shape):
        raise ValueError(
            f"{argument}[{pattern!r}] has {len(axes)} letters for the axes of {leaf.path!r}, "
            f"which has the shape {leaf.shape}: give one for each axis"
        )
    if role in ORTHOGONALIZED and len(leaf.shape) - axes.count("b") < 2:
        raise ValueError(
            f"{argument}[{pattern!r}] says {role!r}, and the parameter {leaf.path!r} has the shape "
            f"{leaf.shape}: only one with two axes or more can be a matrix"
        )
    given = axes or (leaf.axes if len(leaf.own_shape) > 1 else "i" * (len(leaf.shape) - 1) + "o")
    reason = f"{argument} says so, by {pattern!r}"
    return replace(leaf, role=role, reason=reason, doubt="", given=given if leaf.shape else "")
