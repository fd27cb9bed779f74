"""Guess what each parameter is from its name, its shape and its neighbours."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import accumulate

# What a parameter may be. Only the first two are orthogonalized.
ORTHOGONALIZED = ("hidden", "convolution")
ROLES = (*ORTHOGONALIZED, "depthwise", "embedding", "head", "router", "vector")

_VECTORS = {"bias", "scale", "gain", "gamma", "beta", "offset", "norm", "ln", "rms"}
_NORMS = {"norm", "layernorm", "rmsnorm", "batchnorm", "groupnorm", "ln", "bn"}
_EMBEDDINGS = {"embed", "embedding", "embeddings", "embedder", "emb", "wte", "wpe", "vocab"}
_HEADS = {"head", "logits", "classifier", "readout", "unembed", "unembedding", "predictions"}
_MAYBE_HEADS = {"out", "output", "outputs", "final", "last"}
_ATTENTION = {"attention", "attn", "mha", "multihead", "heads", "self", "cross"}
_PROJECTIONS = {"query", "key", "value", "q", "k", "v"}
_BLOCKS = {"layer", "layers", "block", "blocks", "h", "stage", "stages"}
_FUSED = {"qkv", "kv"}
_DEPTHWISE = {"depthwise", "dw", "dwconv"}
_ROUTERS = {"router", "gating"}


@dataclass(frozen=True)
class Leaf:
    """What one parameter is.

    name: the parts of its name.
    shape: its shape.
    role: one of `ROLES`.
    reason: why.
    doubt: what cannot be known from names and shapes, and how to say it; empty if there is none.
    stacked: whether the first axis numbers layers that share this parameter's name.
    transposed: whether the output axis comes before the input axes, as in PyTorch and Equinox.
    outputs: the number of axes of the outputs.
    given: the axes as a user wrote them; empty if nobody did.
    """

    name: tuple[str, ...]
    shape: tuple[int, ...]
    role: str = ""
    reason: str = ""
    doubt: str = ""
    stacked: bool = False
    transposed: bool = False
    outputs: int = 1
    given: str = ""

    @property
    def path(self) -> str:
        return "/".join(self.name)

    @property
    def own_shape(self) -> tuple[int, ...]:
        """The shape in one layer."""
        return self.shape[1:] if self.stacked else self.shape

    @property
    def axes(self) -> str:
        """A letter for each axis: b numbers separate matrices, i inputs and o outputs."""
        if self.given:
            return self.given
        inputs = "i" * (len(self.own_shape) - self.outputs)
        outputs = "o" * self.outputs
        own = outputs + inputs if self.transposed else inputs + outputs
        return ("b" if self.stacked else "") + own

    @property
    def matrix(self) -> tuple[int, int, int]:
        """How many matrices the parameter holds, and how many inputs and outputs each has."""
        sizes = [
            [size for size, letter in zip(self.shape, self.axes, strict=True) if letter == each]
            for each in "bio"
        ]
        count, inputs, outputs = map(math.prod, sizes)
        return count, inputs, outputs


def words(part: str) -> list[str]:
    """Return the words of a part of a name: "lm_head" and "LmHead" are lm and head."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Za-z])(?=[0-9])", " ", part)
    return [word.lower() for word in re.split(r"[^A-Za-z0-9]+", spaced) if word]


def _has(names: Iterable[str], known: set[str]) -> bool:
    return any(word in known for name in names for word in words(name))


def guess(shapes: list[tuple[tuple[str, ...], tuple[int, ...]]]) -> list[Leaf]:
    """Return what each parameter is, given its name and its shape, in their order."""
    model = _Model([Leaf(name, shape) for name, shape in shapes])
    leaves = [model.guess(leaf) for leaf in model.leaves]
    return _with_last_layer_as_head(leaves)


def _modules(name: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return the modules around a parameter, from the outermost on."""
    return list(accumulate(((part,) for part in name[:-1]), initial=()))


class _Model:
    """All parameters, so that each is judged with its neighbours."""

    def __init__(self, leaves: list[Leaf]) -> None:
        self.leaves = leaves
        self.within: dict[tuple[str, ...], list[Leaf]] = defaultdict(list)
        for leaf in leaves:
            for module in _modules(leaf.name):
                self.within[module].append(leaf)
        self.stacks = {module for module in self.within if self._is_stack(module)}
        self.convolutions = [
            leaf for leaf in leaves if len(leaf.shape) > 2 and _has(leaf.name[-2:], {"conv"})
        ]

    def _is_stack(self, module: tuple[str, ...]) -> bool:
        """Return whether the first axis of all parameters in a module numbers layers.

        The evidence is a bias or a gain with one axis more than it has in one layer.
        """
        leaves = self.within[module]
        if not all(leaf.shape for leaf in leaves) or len({leaf.shape[0] for leaf in leaves}) > 1:
            return False
        return any(map(self._is_stacked_vector, leaves))

    def _is_stacked_vector(self, leaf: Leaf) -> bool:
        if sum(size > 1 for size in leaf.shape) < 2 or not self._is_vector_name(leaf):
            return False
        kernels = [each.shape for each in self._siblings(leaf) if len(each.shape) > 2]
        # The bias of a layer with several output axes has them too: (heads, width of a head).
        return all(shape[-len(leaf.shape) :] != leaf.shape for shape in kernels)

    def _is_vector_name(self, leaf: Leaf) -> bool:
        """Return whether a parameter has the name of a bias or a gain."""
        if _has(words(leaf.name[-1])[-1:], _VECTORS) or _has(leaf.name[-2:-1], _NORMS):
            return True
        # Haiku calls a bias "b", and others may call anything so.
        kernels = [each.shape for each in self._siblings(leaf)]
        rank = len(leaf.shape)
        return leaf.name[-1] == "b" and any(
            len(shape) == rank + 1 and shape[-1:] == leaf.shape[-1:] for shape in kernels
        )

    def _siblings(self, leaf: Leaf) -> list[Leaf]:
        own = self.within[leaf.name[:-1]]
        return [each for each in own if len(each.name) == len(leaf.name) and each is not leaf]

    def guess(self, leaf: Leaf) -> Leaf:
        """Return a parameter with its role, its axes and the reasons."""
        stacked = any(module in self.stacks for module in _modules(leaf.name))
        leaf = replace(leaf, stacked=stacked)
        shape = leaf.own_shape
        is_thin = sum(size > 1 for size in shape) < 2
        if not shape or (is_thin and not (len(shape) > 3 or _is_head(leaf))):
            few = "no more than one axis" if len(shape) < 2 else "only one axis longer than 1"
            return replace(leaf, role="vector", reason=f"it has {few}{_per_layer(leaf)}")
        if self._is_vector_name(leaf):
            return replace(leaf, role="vector", reason=f"a bias or a gain{_per_layer(leaf)}")
        leaf = self._with_axes(leaf)
        return self._by_name(leaf) or self._by_shape(leaf)

    def _by_name(self, leaf: Leaf) -> Leaf | None:
        last, around = leaf.name[-1], leaf.name[:-1]
        if _is_head(leaf):
            return replace(leaf, role="head", reason=f"its name has {_named(leaf.name, _HEADS)!r}")
        if _has(leaf.name, _ROUTERS):
            word = _named(leaf.name, _ROUTERS)
            return replace(leaf, role="router", reason=f"its name has {word!r}")
        if _has(leaf.name, _EMBEDDINGS) or _has((last,), {"pos", "position"}):
            sure = last in ("embedding", "embeddings") or not _has((last,), {"kernel", "w"})
            doubt = "" if sure else "a layer below the name of an embedding may be a hidden one"
            return replace(leaf, role="embedding", reason="its name has 'embed' or the like",
                           doubt=doubt)  # fmt: skip
        if around and _has(around[-1:], _MAYBE_HEADS) and not self._is_inside(leaf):
            word = _named(around[-1:], _MAYBE_HEADS)
            doubt = f"a layer called {word!r} outside of all blocks may also be a hidden one"
            return replace(leaf, role="head", reason=f"its layer is called {word!r}", doubt=doubt)
        return None

    def _is_inside(self, leaf: Leaf) -> bool:
        """Return whether a layer is in a block or an attention layer of a larger model."""
        around = leaf.name[:-2]
        near = {each.name[len(around)] for each in self.within[around]}
        return (
            _has(around, _BLOCKS | _ATTENTION)
            or any(word.isdigit() for part in around for word in words(part))
            or _has(leaf.name[-2:-1], _ATTENTION)
            or bool(near & _PROJECTIONS)
        )

    def _by_shape(self, leaf: Leaf) -> Leaf:
        shape = leaf.own_shape
        if len(shape) < 4 and not (len(shape) == 3 and _has(leaf.name[-3:], {"conv"})):
            reason = "a matrix" if len(shape) == 2 else "a matrix with several axes"
            doubt = leaf.doubt
            if _has(leaf.name[-2:-1], {"decoder"}):
                doubt = "a layer called 'decoder' may be the head"
            elif self._is_fused(leaf):
                doubt = "queries, keys and values may be separate matrices in it, to be split"
            return replace(leaf, role="hidden", reason=f"{reason}{_per_layer(leaf)}", doubt=doubt)
        reason = f"a convolution over {len(shape) - 2} axes{_per_layer(leaf)}"
        inputs = shape[1] if leaf.transposed else shape[-2]
        if inputs > 1:
            return replace(leaf, role="convolution", reason=reason)
        if _has(leaf.name, _DEPTHWISE):
            return replace(leaf, role="depthwise", reason=f"{reason}, called depthwise")
        if leaf in self.convolutions[:1]:
            doubt = "a first convolution with one input channel: it might be depthwise"
            return replace(leaf, role="convolution", reason=reason, doubt=doubt)
        doubt = "one input channel: it might be a convolution of one channel"
        return replace(leaf, role="depthwise", reason=reason, doubt=doubt)

    def _is_fused(self, leaf: Leaf) -> bool:
        """Return whether one matrix seems to hold the queries, keys and values of attention."""
        _, inputs, outputs = leaf.matrix
        inside = _has(leaf.name[:-1], _ATTENTION)
        return _has(leaf.name, _FUSED) or (inside and outputs == 3 * inputs)

    def _with_axes(self, leaf: Leaf) -> Leaf:
        """Return a parameter with what is known of the order and the number of its axes."""
        siblings = self._siblings(leaf)
        vectors = [each for each in siblings if self._is_vector_name(each)]
        # A bias tells something of the only kernel beside it, and of several nothing.
        is_alone = len(vectors) == len([each for each in siblings if each.shape])
        sizes = None
        if vectors and is_alone:
            sizes = replace(vectors[0], stacked=leaf.stacked).own_shape
        shape = leaf.own_shape
        leaf = replace(leaf, transposed=_is_transposed(leaf, sizes))
        if len(shape) != 3 or leaf.transposed or _has(leaf.name[-3:], {"conv"}):
            return leaf
        layer = leaf.name[-2:-1] or leaf.name
        if sizes == shape[1:] or _has(layer, _PROJECTIONS):
            return replace(leaf, outputs=2)
        inside = _has(leaf.name[:-1], _ATTENTION) or self._is_inside(leaf)
        if sizes == shape[2:] or (_has(layer, {"out", "o"}) and inside):
            return leaf
        doubt = (
            "three axes: read as a stack of matrices; it may also be one matrix with several axes "
            "or a convolution"
        )
        return replace(leaf, stacked=True, doubt=doubt)


def _is_head(leaf: Leaf) -> bool:
    """Return whether a name has a word of the last layer, and not that of an attention head."""
    for i, part in enumerate(leaf.name):
        found = words(part)
        if _HEADS.intersection(found) and not {"multi", *_ATTENTION}.intersection(found):
            return not _has(leaf.name[i : i + 1], {"norm"})
        if {"embed", "out"} <= set(found):
            return True
    return False


def _named(names: Iterable[str], known: set[str]) -> str:
    return next((word for name in names for word in words(name) if word in known), "embed_out")


def _is_transposed(leaf: Leaf, bias: tuple[int, ...] | None) -> bool:
    """Return whether the output axis comes first: the bias says so, or else the name does."""
    shape = leaf.own_shape
    if bias is not None and len(bias) == 1 and shape[0] != shape[-1]:
        return bias == shape[:1] and bias != shape[-1:]
    # Linear and Conv of Equinox and PyTorch call (out, in, ...) "weight", and others do not.
    return leaf.name[-1] == "weight" and not _has(leaf.name, _EMBEDDINGS)


def _per_layer(leaf: Leaf) -> str:
    return f" in each of {leaf.shape[0]} layers" if leaf.stacked else ""


def _with_last_layer_as_head(leaves: list[Leaf]) -> list[Leaf]:
    """Take the last of several numbered layers for the head, if none is called so."""
    if any(leaf.role == "head" for leaf in leaves):
        return leaves
    families: dict[tuple[str, ...], list[tuple[int, int]]] = defaultdict(list)
    for i, leaf in enumerate(leaves):
        family = _family(leaf)
        if leaf.role == "hidden" and not leaf.stacked and family is not None:
            families[family[:-1]].append((int(family[-1]), i))
    for members in families.values():
        members.sort()
        last = leaves[members[-1][1]]
        others = [leaf for leaf in leaves if leaf.role in ORTHOGONALIZED and leaf is not last]
        earlier = [leaves[i] for _, i in members[:-1]]
        read = any(leaf.matrix[1] == last.matrix[2] for leaf in others if leaf not in earlier)
        if len(members) > 1 and not read:
            reason = f"the last of {len(members)} numbered layers; none reads its outputs"
            doubt = "nothing in its name says that it is the head"
            found = replace(last, role="head", reason=reason, doubt=doubt)
            return [found if leaf is last else leaf for leaf in leaves]
    return _with_doubts_about_the_head(leaves)


def _family(leaf: Leaf) -> tuple[str, ...] | None:
    """Return the name of a numbered layer outside of all blocks without its number, and that."""
    if len(leaf.name) < 2:
        return None
    layer = leaf.name[-2]
    number = re.fullmatch(r"(.*?)_?(\d+)", layer)
    if number is None:
        return None
    around = leaf.name[:-2] if number[1] else leaf.name[:-3]
    stem = number[1] or "/".join(leaf.name[-3:-2])
    has_number = any(word.isdigit() for part in around for word in words(part))
    if has_number or _has(around, _BLOCKS | _ATTENTION):
        return None
    return (*around, stem, number[2])


def _with_doubts_about_the_head(leaves: list[Leaf]) -> list[Leaf]:
    """Say of the only hidden matrix whose outputs no other reads that it may be the head."""
    hidden = [leaf for leaf in leaves if leaf.role == "hidden" and not leaf.stacked]
    hidden = [leaf for leaf in hidden if not _has(leaf.name, _BLOCKS | _ATTENTION)]
    inputs = {leaf.matrix[1] for leaf in leaves if leaf.role in ORTHOGONALIZED}
    last = [leaf for leaf in hidden if leaf.matrix[2] not in inputs]
    if len(last) != 1 or last[0].doubt:
        return leaves
    doubt = "no layer reads its outputs: it may be the head"
    return [replace(leaf, doubt=doubt) if leaf is last[0] else leaf for leaf in leaves]
