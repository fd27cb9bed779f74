"""Copies, buffers and memory traffic of every transformation's compiled step."""

import jax
import jax.numpy as jnp
import optax
import pytest

import momentax
from tests.cases import TRANSFORMATIONS
from tests.compiled import audit, copies

N = 1 << 16
SLACK = 1000 / N  # A few scalars: a count, the partial sums of a norm.
FLAT = jax.ShapeDtypeStruct((N,), jnp.float32)
TREES = {
    "flat": FLAT,
    "tree": {
        "kernel": jax.ShapeDtypeStruct((256, 128), jnp.float32),
        "embedding": jax.ShapeDtypeStruct((64, 512), jnp.float32),
    },
}
HALF = jax.ShapeDtypeStruct((N,), jnp.bfloat16)


def audited(tx, params, extra=lambda g: {}):
    """Audit a step that donates the parameters and the state."""

    def step(params, state, grads):
        updates, state = tx.update(grads, state, params, **extra(grads))
        return optax.apply_updates(params, updates), state

    return audit(step, params, jax.eval_shape(tx.init, params), args=(params,))


@pytest.mark.parametrize("name", TRANSFORMATIONS)
@pytest.mark.parametrize("tree", TREES)
def test_a_compiled_step_copies_and_allocates_no_more_than_its_case_allows(name, tree):
    case, params = TRANSFORMATIONS[name], TREES[tree]
    assert bool(case.reason) == bool(case.copies or case.temporary)
    found = audited(case.make(**case.hyperparameters), params, case.extra)
    assert len(found.copies) <= case.copies * len(jax.tree.leaves(params)), found.copies
    assert found.aliased == found.donated
    assert found.temporary <= case.temporary + SLACK
    # Most steps make two passes: v' from v and g; θ' from v', θ and, with Nesterov, g again.
    assert found.accessed <= case.accessed + SLACK


def halved(case):
    """Build the transformation of a case with all its β equal to 1/2."""
    shares = {"beta", "beta1", "beta2", "beta3"} & set(case.hyperparameters)
    return case.make(**(case.hyperparameters | dict.fromkeys(shares, 0.5)))


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_a_step_with_equal_shares_of_velocity_and_gradient_copies_nothing_either(name):
    """XLA rewrites v/2 + g/2 as (v + g)/2 and may compute it twice; bfloat16 is tested as well."""
    case, params = TRANSFORMATIONS[name], {"full": FLAT, "half": HALF}
    found = audited(halved(case), params, case.extra)
    assert len(found.copies) <= case.copies * len(params), found.copies
    assert found.aliased == found.donated


def lion_from_the_old_velocity(beta1=0.9, beta2=0.99):
    """Lion as in the paper's program and in Optax."""

    def update(updates, state, params=None):
        d = jax.tree.map(lambda g, v: jnp.sign(beta1 * v + (1 - beta1) * g), updates, state)
        return d, jax.tree.map(lambda g, v: beta2 * v + (1 - beta2) * g, updates, state)

    return optax.GradientTransformation(lambda params: jax.tree.map(jnp.zeros_like, params), update)


@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize("peer", [lion_from_the_old_velocity, optax.scale_by_lion])
def test_the_audit_detects_a_direction_computed_from_the_old_velocity(tree, peer):
    with jax.numpy_dtype_promotion("standard"):
        found = audited(optax.with_extra_args_support(peer(0.9, 0.99)), TREES[tree])
    assert len(found.copies) == len(jax.tree.leaves(TREES[tree]))
    assert found.temporary == pytest.approx(4, abs=SLACK)
    assert found.accessed > audited(momentax.lion(), TREES[tree]).accessed + 4


def test_the_audit_detects_copies_inside_a_loop():
    tx = lion_from_the_old_velocity()

    def steps(params, state, grads):
        def step(carry, g):
            params, state = carry
            updates, state = tx.update(g, state, params)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, state), grads)[0]

    three = jax.ShapeDtypeStruct((3, N), jnp.float32)
    assert audit(steps, FLAT, FLAT, args=(three,)).copies
    tx = momentax.lion()
    assert not audit(steps, FLAT, jax.eval_shape(tx.init, FLAT), args=(three,)).copies


def test_the_audit_detects_a_donated_buffer_that_is_not_reused():
    found = audit(lambda params: params.astype(jnp.bfloat16), FLAT)
    assert found.aliased == 0
    assert found.donated == 4 * N


def test_large_copies_are_found_in_every_form_of_the_instruction():
    large = """
  %copy.1 = f32[1024]{0} copy(%p)
  ROOT %copy = bf16[32,32]{0,1} copy(%param_0.3), metadata={op_name="jit(step)/add"}
  %copy.2 = s8[2,4,1,256]{3,2,1,0:T(8,128)} copy(f32[1024]{0} %p), control-predecessors={%copy.1}
  copy-start.1 = (f32[1024]{0:S(5)}, f32[1024]{0}, u32[]) copy-start(fusion.2)
    """
    small = """
  %copy.1 = s32[] copy(%count)
  %copy.2 = f32[1023]{0} copy(%p)
  %add.1 = f32[1024]{0} add(%copy.1, %copy.2), metadata={op_name="jit(step)/copy(" source="copy("}
  %copy-done.1 = f32[1024]{0} copy-done(%copy-start.1)
  %fused.1 = f32[1024]{0} fusion(%copy.1), kind=kLoop, calls=%copy.3
    """
    assert len(copies(large, 1024)) == 4
    assert copies(small, 1024) == []


@pytest.mark.parametrize(
    ("betas", "form"),
    [
        ((0.9, 0.99), "new"),
        ((0.5, 0.5), "new"),
        ((0.9, 0.5), "old"),
        ((0.9, 0.1), "old"),
        ((0.9, lambda count: jnp.where(count < 5, 0.9, 0.99)), "old"),
    ],
)
def test_lion_copies_only_where_the_new_velocity_does_not_determine_the_old_one(betas, form):
    found = audited(momentax.lion(*betas), FLAT)
    assert len(found.copies) == (0 if form == "new" else 1)
    assert found.temporary == pytest.approx(0 if form == "new" else 4, abs=SLACK)
