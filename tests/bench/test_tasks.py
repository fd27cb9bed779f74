"""The list of the tasks of the comparison, and what their records say."""

import doctest

import jax
import jax.numpy as jnp
import pytest

import momentax
from momentax.bench import Task, tasks

# The names in their order, with the numbers of parameters.
PARAMETERS = {
    "digits_cnn": 13_658,
    "unicode_bn": 13_851,
    "ridge": 64,
    "names_char": 58_944,
    "names_embed": 160_248,
    "curves_ae": 87_110,
    "spiral_deep": 6_627,
    "poisson_pinn": 2_241,
}
KEY = jax.random.key(0)


def arrays_of(task):
    return {name: jnp.asarray(array) for name, array in task.load().items()}


def test_the_tasks_are_listed_in_their_order():
    assert list(tasks) == list(PARAMETERS)
    assert len(tasks) == 8
    assert all(task.name == name and isinstance(task, Task) for name, task in tasks.items())
    assert repr(tasks).splitlines()[0] == "<Task digits_cnn: 1000 steps, batches of 32>"
    assert repr(tasks["ridge"]) == "<Task ridge: 1000 steps, all examples>"
    with pytest.raises(KeyError, match="there is no task 'digits'; the names are 'digits_cnn', "):
        tasks["digits"]
    with pytest.raises(TypeError):
        tasks["mine"] = tasks["ridge"]


@pytest.mark.parametrize(("name", "count"), PARAMETERS.items())
def test_models_have_the_parameters_that_the_descriptions_say(name, count):
    task = tasks[name]
    data = arrays_of(task)
    params = jax.eval_shape(lambda key: task.init(data, key), KEY)
    leaves = jax.tree.leaves(params)
    assert sum(leaf.size for leaf in leaves) == count
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}
    assert f"{count:,} parameters" in task.description or f"{count} weights" in task.description
    roles = momentax.roles(params)
    assert not roles.doubtful
    assert ("hidden" in roles.values()) == (name != "ridge")


def test_the_layers_of_the_deep_network_are_a_stack_of_matrices():
    roles = momentax.roles(jax.eval_shape(lambda key: tasks["spiral_deep"].init(None, key), KEY))
    assert roles.leaves["layers/kernel"].matrix == (24, 16, 16)


def test_examples_of_the_class_run():
    names = {"momentax": momentax, "jax": jax}
    for function in (Task.measure, Task.train):
        test = doctest.DocTestParser().get_doctest(
            function.__doc__, names, function.__name__, None, 0
        )
        results = doctest.DocTestRunner().run(test)
        assert results.attempted >= 1
        assert results.failed == 0
