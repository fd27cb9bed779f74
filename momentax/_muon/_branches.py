"""Two optimizers that share the parameters between them, by the roles of the parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import optax

from momentax._core import arithmetic, trees
from momentax._core.transformations import transformation
from momentax._core.typing import PyTree
from momentax._state._role_rules import ORTHOGONALIZED, Leaf
from momentax._state._roles import find_roles
from momentax._state._velocity import velocities

# From the parameters and a letter for each axis of the chosen ones to an optimizer of these.
_MakeHidden = Callable[[PyTree, PyTree], optax.GradientTransformationExtraArgs]


class MuonState(NamedTuple):
    """The state of muon, which two optimizers share.

    hidden: the state of the optimizer of hidden matrices and convolutions; all other parameters
        are MaskedNodes in it.
    others: the state of the optimizer of the others, in which those are MaskedNodes.

    `splits_parameters` tells `momentax.velocity` that the velocities are of different parameters.
    """

    hidden: Any
    others: Any

    splits_parameters = True


class _Shares(NamedTuple):
    """Which of the two optimizers has which parameter.

    keep: for each parameter whether it is orthogonalized, and None where there is no array.
    axes: for each that is orthogonalized a letter for each of its axes, and MaskedNode elsewhere.
    """

    keep: PyTree
    axes: PyTree

    def hidden(self, tree: PyTree) -> PyTree:
        return self._share(tree, True)

    def others(self, tree: PyTree) -> PyTree:
        return self._share(tree, False)

    def _share(self, tree: PyTree, chosen: bool) -> PyTree:
        def choose(keep: Any, part: Any) -> Any:
            return None if keep is None else part if keep == chosen else optax.MaskedNode()

        return jax.tree.map(choose, self.keep, tree, is_leaf=trees.is_none)

    def join(self, hidden: PyTree, others: PyTree, params: PyTree) -> PyTree:
        """Return the updates of both, with zeros for parameters that have none."""

        def choose(keep: Any, mine: Any, other: Any, leaf: Any) -> Any:
            if keep is None:
                return arithmetic.zero_update(leaf) if trees.is_array(leaf) else None
            u = mine if keep else other
            return arithmetic.zero_update(leaf) if u is None else u

        return jax.tree.map(choose, self.keep, hidden, others, params, is_leaf=trees.is_none)


def split_by_role(
    make_hidden: _MakeHidden,
    others: optax.GradientTransformation,
    roles: Mapping[str, str] | None,
) -> optax.GradientTransformationExtraArgs:
    """Return the transformation that gives each parameter to one of two optimizers."""
    others = optax.with_extra_args_support(others)
    # The optimizer of hidden matrices is made anew for the axes of the parameters at hand; all that
    # it reads is in this one as well, where `momentax.hyperparameters` finds it.
    branches = {"hidden": make_hidden(None, None), "others": others}

    def init(params):
        arithmetic.require_inexact(trees.only_arrays(params))
        shares = _shares_of(params, roles)
        hidden = make_hidden(params, shares.axes).init(shares.hidden(params))
        return MuonState(hidden, branches["others"].init(shares.others(params)))

    def update(updates, state, params=None, **extra_args):
        if params is None and jax.tree.leaves(updates):
            raise ValueError("muon needs the parameters: call update(grads, state, params)")
        trees.require_params(updates, params)
        shares = _shares_of(_given_at_init(state, params), roles)
        tx = make_hidden(params, shares.axes)
        u, hidden = tx.update(
            shares.hidden(updates), state.hidden, shares.hidden(params), **extra_args
        )
        mine, gradients = shares.others(params), shares.others(updates)
        own, rest = _update_others(branches["others"], gradients, state.others, mine, extra_args)
        return shares.join(u, own, params), MuonState(hidden, rest)

    return transformation(init, update, MuonState)


def _update_others(
    tx: optax.GradientTransformationExtraArgs,
    updates: PyTree,
    state: Any,
    params: PyTree,
    extra_args: Mapping[str, Any],
) -> tuple[PyTree, Any]:
    """Update the other parameters, and keep the moments of those that have no gradient.

    Some optimizers of Optax have None in their place, and fail at the next gradient. Others fail at
    once, for example `optax.adam`.
    """
    missing = [
        trees.path_name(path)
        for path, g in jax.tree_util.tree_leaves_with_path(updates, is_leaf=trees.is_none)
        if g is None
    ]
    try:
        updates, new = tx.update(updates, state, params, **extra_args)
    except (ValueError, TypeError, AttributeError) as error:  # As their code meets the None.
        if not missing:
            raise
        raise ValueError(
            f"the gradient at {missing[0]} is None, which the optimizer in others may not accept: "
            "pass zeros in its place, or leave others out, since the default optimizer keeps the "
            "moments of a parameter without a gradient"
        ) from error
    if len(jax.tree.leaves(new)) < len(jax.tree.leaves(state)):
        new = jax.tree.map(lambda n, o: o if n is None else n, new, state, is_leaf=trees.is_none)
    return updates, new


def _given_at_init(state: MuonState, params: PyTree) -> PyTree:
    """Return the parameters with None for those that init was not given, as in a whole module."""
    for velocity in velocities(state.hidden).values():
        params = trees.absent_like(velocity, params)
    return params


def _shares_of(params: PyTree, roles: Mapping[str, str] | None) -> _Shares:
    arrays = trees.only_arrays(params)
    found = find_roles("roles", params, roles)
    structure = jax.tree.structure(arrays)
    keep = structure.unflatten([leaf.role in ORTHOGONALIZED for leaf in found])
    return _Shares(keep, structure.unflatten(map(_axes_of, found)))


def _axes_of(leaf: Leaf) -> Any:
    return leaf.axes if leaf.role in ORTHOGONALIZED else optax.MaskedNode()
