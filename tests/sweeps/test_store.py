"""What a store keeps: every finished batch, for the sweep that it belongs to and for no other."""

import builtins
import errno
import functools
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import Mesh

import momentax
from momentax import grid, halve, sweep
from momentax.sweeps import repeat, zipped

ROOT = Path(__file__).parents[2]
DATA = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
POINTS = grid(method=["slow", "fast"], learning_rate=np.linspace(0.1, 1, 5), beta=[0.0, 0.9])
RACERS = grid(learning_rate=np.linspace(0.1, 1, 5), beta=[0.0, 0.9])


def run(method, learning_rate, beta):
    def step(carried, _):
        x, v = carried
        v = beta * v + DATA.T @ jnp.tanh(DATA @ x)
        return (x - 0.1 * learning_rate * v, v), None

    start = jnp.ones(3), jnp.zeros(3)
    (x, _), _ = jax.lax.scan(step, start, length={"slow": 2, "fast": 9}[method])
    return {"x": x, "loss": (x**2).sum()}


def start(learning_rate, beta):
    return jnp.ones(3) * beta


def advance(x, learning_rate, beta):
    return x - learning_rate * jnp.tanh(x) + beta


def score(x):
    return (x**2).sum()


def raced(store=None, points=RACERS, **settings):
    how = {"rungs": [1, 3], "batch_size": 4, "store": store} | settings
    return halve(start, advance, score, points, **how)


def contents(folder):
    """The bytes of all that is in a folder, and when it was changed."""
    return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in Path(folder).iterdir()}


def batch_files(folder):
    return sorted(Path(folder).glob("batch-*.npz"))


def places_in(folder):
    """The places of the points that a store has, those of a race once a rung."""
    found = []
    for path in batch_files(folder):
        with np.load(path) as file:
            found += file["points"].tolist()
    return found


def same(a, b):
    """Whether two results are the same to the last bit."""
    a, b = (jax.tree.leaves((r.values, r.diverged)) for r in (a, b))
    return all(
        np.asarray(x).tobytes() == np.asarray(y).tobytes() for x, y in zip(a, b, strict=True)
    )


def devices(count):
    return Mesh(np.array(jax.devices()[:count]), ("points",))


@pytest.fixture
def store(tmp_path):
    """A finished store of `run`, in batches of 4."""
    sweep(run, POINTS, batch_size=4, store=tmp_path / "store")
    return tmp_path / "store"


def stopped(monkeypatch, store, after, points=POINTS, **settings):
    """A sweep that stops when it has kept so many batches."""
    stopped_call(monkeypatch, store, after, lambda: sweep(run, points, store=store, **settings))


def stopped_call(monkeypatch, store, after, call):
    replace = os.replace

    def full(source, target):
        if Path(target).name.startswith("batch-") and len(batch_files(store)) >= after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        with pytest.raises(OSError, match="No space left"):
            call()
    assert len(batch_files(store)) == after


# Killed


def killing(kind, folder, kills, seed=0):
    arguments = ["-m", "tests.sweeps.killed", kind, folder, kills, seed]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # The forks too can be ended with it.
    )


def told(process):
    """What the process printed of its attempts."""
    try:
        printed, _ = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    outcome = json.loads(printed)
    assert outcome["status"] == 0
    return outcome["attempts"]


@pytest.mark.parametrize(("kind", "kills"), [("sweep", 20), ("halve", 6)])
def test_killed_at_any_moment_nothing_finished_runs_again_and_the_bytes_are_the_same(
    tmp_path, kind, kills
):
    processes = killing(kind, tmp_path / "killed", kills), killing(kind, tmp_path / "whole", 0)
    attempts, whole = map(told, processes)
    assert len(attempts) == kills + 1  # It was never done before.
    assert len(whole) == 1
    for folder in ("killed", "whole"):
        assert not list((tmp_path / folder / "store").glob("*.tmp"))
    ours, theirs = (
        {p.name: p.read_bytes() for p in (tmp_path / folder / "store").iterdir()}
        for folder in ("killed", "whole")
    )
    assert ours == theirs
    ours, theirs = ((tmp_path / folder / "result").read_bytes() for folder in ("killed", "whole"))
    assert ours == theirs
    # Some were killed while a file was being written, and some had finished batches.
    assert any(attempt["halfway"] for attempt in attempts)
    assert all(attempt["before"] for attempt in attempts[-kills // 2 :])
    # Each batch is 4 points; what was finished before an attempt was not computed in it.
    finished = [len(attempt["before"]) for attempt in attempts]
    assert finished == sorted(finished)
    if kind == "sweep":
        from tests.sweeps.killed import POINTS

        for attempt in attempts:
            known = [POINTS[i] for places in attempt["before"].values() for i in places]
            done = {
                f"{point['learning_rate']} {point['seed']} {int(point['method'] == 'nesterov')}"
                for point in known
            }
            assert done.isdisjoint(attempt["computed"])
        report = json.loads((tmp_path / "killed" / "report").read_text())
        assert report["resumed"] == 4 * finished[-1]
    else:  # The advances between a batch's rung and the one before are computed once.
        computed = sum(len(attempt["computed"]) for attempt in attempts[-1:])
        assert computed < len(whole[0]["computed"])
        left = {p.name for p in batch_files(tmp_path / "whole" / "store")}
        left -= set(attempts[-1]["before"])
        steps = {"000": 1, "001": 1, "002": 2}
        assert computed == sum(4 * steps[name[10:13]] for name in left)


# Going on


def test_a_finished_store_gives_the_result_and_runs_nothing(store):
    before = contents(store)
    again = sweep(run, POINTS, batch_size=4, store=store)
    assert same(again, sweep(run, POINTS, batch_size=4))
    assert again.report.resumed == len(POINTS)
    assert again.report.programs == 0
    assert again.report.batch_size == 4
    assert contents(store) == before


def test_a_resumed_sweep_keeps_to_the_batches_of_the_first(monkeypatch, tmp_path):
    points = grid(method=["slow", "fast"], learning_rate=np.linspace(0.1, 1, 9), beta=[0.0])
    whole = sweep(run, points, batch_size=4, store=tmp_path / "whole")
    names = [path.name for path in batch_files(tmp_path / "whole")]
    # A batch in the middle is missing, so that what is left is no row of whole batches.
    stopped(monkeypatch, tmp_path / "store", 4, points=points, batch_size=4)
    batch_files(tmp_path / "store")[1].unlink()
    places = places_in(tmp_path / "store")
    again = sweep(run, points, store=tmp_path / "store")
    assert again.report.resumed == len(places)
    assert same(again, whole)
    assert [path.name for path in batch_files(tmp_path / "store")] == names


def test_auto_goes_on_with_the_batch_size_of_the_store(monkeypatch, tmp_path):
    stopped(monkeypatch, tmp_path, 2, batch_size=6)
    again = sweep(run, POINTS, store=tmp_path)
    assert again.report.batch_size == 6
    assert again.report.tried == ()
    assert same(again, sweep(run, POINTS, batch_size=6))


def test_auto_keeps_what_it_chose(monkeypatch, tmp_path):
    points = grid(method=["slow"], learning_rate=np.linspace(0.1, 1, 50), beta=[0.0])
    stopped(monkeypatch, tmp_path, 1, points=points)
    kept = json.loads((tmp_path / "about.json").read_text())["batch"]
    again = sweep(run, points, store=tmp_path)
    assert again.report.batch_size == kept
    assert same(again, sweep(run, points, batch_size=kept))


def test_a_batch_size_given_before_any_was_chosen_is_kept(monkeypatch, tmp_path):
    # Killed after about.json and before auto chose; then stopped again.
    sweep(run, POINTS, batch_size=4, store=tmp_path)
    for path in batch_files(tmp_path):
        path.unlink()
    about = json.loads((tmp_path / "about.json").read_text())
    (tmp_path / "about.json").write_text(json.dumps(about | {"batch": 0}))
    stopped(monkeypatch, tmp_path, 1, batch_size=4)
    assert sweep(run, POINTS, store=tmp_path).report.batch_size == 4


def test_another_batch_size_is_refused(store):
    before = contents(store)
    with pytest.raises(
        ValueError,
        match='was begun with batch_size=4, got 6; batch_size="auto" goes on with the store\'s',
    ):
        sweep(run, POINTS, batch_size=6, store=store)
    assert contents(store) == before


def test_more_or_fewer_devices_go_on(monkeypatch, tmp_path):
    whole = sweep(run, POINTS, batch_size=4)
    for first, then in [(1, 2), (2, 1)]:
        store = tmp_path / f"{first}"
        stopped(monkeypatch, store, 2, batch_size=4, mesh=devices(first))
        again = sweep(run, POINTS, batch_size=4, store=store, mesh=devices(then))
        assert again.report.resumed == 8
        assert again.report.devices == then
        for ours, theirs in zip(
            jax.tree.leaves(again.values), jax.tree.leaves(whole.values), strict=True
        ):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_race_goes_on_from_its_store(monkeypatch, tmp_path):
    whole = raced(tmp_path / "whole")
    assert same(whole, raced())
    names = [path.name for path in batch_files(tmp_path / "whole")]
    for after in range(len(names)):
        store = tmp_path / f"{after}"
        stopped_call(monkeypatch, store, after, lambda store=store: raced(store))
        resumed = len(places_in(store))
        again = raced(store)
        assert same(again, whole)
        np.testing.assert_array_equal(again.survivors, whole.survivors)
        np.testing.assert_array_equal(again.states, whole.states)
        assert [path.name for path in batch_files(store)] == names
        assert again.report.resumed == resumed


# Refused


def other_constant(method, learning_rate, beta):
    result = run(method, learning_rate, beta)
    return {"x": result["x"] * 2, "loss": result["loss"]}


def closing_over(data):
    def run(beta):
        return (data * beta).sum()

    return run


AXES = {"method": ["slow", "fast"], "learning_rate": np.linspace(0.1, 1, 5), "beta": [0.0, 0.9]}
OTHERS = {
    "value": (
        lambda store: sweep(run, grid(**AXES | {"beta": [0.0, 0.95]}), store=store),
        r"axis beta was 0\.9 and is 0\.95 at index 1",
    ),
    "last digit": (
        lambda store: sweep(
            run,
            grid(**AXES | {"beta": [0.0, np.nextafter(np.float32(0.9), np.float32(0))]}),
            store=store,
        ),
        r"axis beta was 0\.9 and is 0\.8999999 at index 1",
    ),
    "more": (
        lambda store: sweep(run, grid(**AXES | {"beta": [0.0, 0.9, 0.99]}), store=store),
        "axis beta had 2 values and has 3",
    ),
    "fewer": (
        lambda store: sweep(run, grid(**AXES | {"method": ["slow"]}), store=store),
        "axis method had 2 values and has 1",
    ),
    "word": (
        lambda store: sweep(
            lambda method, **point: run("slow", **point),
            grid(**AXES | {"method": ["slow", "other"]}),
            store=store,
        ),
        "axis method was fast and is other at index 1",
    ),
    "seeds": (
        lambda store: sweep(
            lambda seed, **point: run(**point), repeat(grid(**AXES), 2), store=store
        ),
        r"the axes were \['method', 'learning_rate', 'beta'\] and are .*'seed'\]",
    ),
    "order": (
        lambda store: sweep(run, grid(**dict(reversed(AXES.items()))), store=store),
        r"the axes were \['method', 'learning_rate', 'beta'\] and are \['beta', ",
    ),
    "zipped": (
        lambda store: sweep(
            run, zipped(**{name: values[:2] for name, values in AXES.items()}), store=store
        ),
        r"the axes of each dimension were .* and are \{'point': \['method', ",
    ),
    "function": (
        lambda store: sweep(other_constant, POINTS, store=store),
        r"its function is another; 2 lines of its jaxpr, in function\.txt, differ:\n"
        r"(  \+ \w+:f32\[3\] = mul \w+ 2\.0:f32\[\]\n){2} \. Give another folder",
    ),
    "reduce": (
        lambda store: sweep(run, POINTS, store=store, reduce=lambda result: result["loss"]),
        r"its function is another; \d+ lines",
    ),
    "halve": (raced, r"it was begun by sweep and is given to halve"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_another_sweep_is_refused_with_the_difference(store, other):
    call, text = OTHERS[other]
    before = contents(store)
    with pytest.raises(ValueError, match=text) as raised:
        call(store)
    assert "belongs to another sweep" in str(raised.value)
    assert "nothing in it was touched" in str(raised.value)
    assert contents(store) == before


def test_another_array_that_run_closes_over_is_refused(tmp_path):
    points = grid(beta=[0.0, 0.5])
    data = np.ones(1000, np.float32)
    sweep(closing_over(data), points, store=tmp_path)
    before = contents(tmp_path)
    assert sweep(closing_over(data.copy()), points, store=tmp_path).report.resumed == 2
    data[500] += 1e-7
    with pytest.raises(ValueError, match="the arrays that its function closes over are others"):
        sweep(closing_over(data), points, store=tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("inner", ["jit", "scan", "cond"])
def test_another_array_inside_what_run_calls_is_refused(tmp_path, inner):
    def made(data):
        data = jnp.asarray(data)
        calls = {
            "jit": jax.jit(lambda x: x * data),
            "scan": lambda x: jax.lax.scan(lambda c, _: (c * data, None), x, length=2)[0],
            "cond": lambda x: jax.lax.cond(x.sum() > 0, lambda y: y * data, lambda y: y, x),
        }
        return lambda beta: calls[inner](jnp.ones(2) * beta)

    points = grid(beta=[0.25, 0.5])
    sweep(made([1.0, 2.0]), points, store=tmp_path)
    with pytest.raises(ValueError, match="the arrays that its function closes over are others"):
        sweep(made([1.0, 3.0]), points, store=tmp_path)


def test_another_digit_of_a_number_in_run_is_refused(tmp_path):
    points, value = grid(beta=[0.25, 0.5]), np.float32(0.1)
    sweep(lambda beta: beta * value, points, store=tmp_path)
    other = np.nextafter(value, np.float32(1))
    with pytest.raises(ValueError, match="belongs to another sweep"):
        sweep(lambda beta: beta * other, points, store=tmp_path)


@pytest.mark.parametrize("name", ["momentax", "jax", "format"])
def test_another_version_is_refused(store, name):
    about = json.loads((store / "about.json").read_text())
    (store / "about.json").write_text(json.dumps(about | {name: "0.0.1"}))
    before = contents(store)
    with pytest.raises(ValueError, match=f"{name} was '0.0.1' and is ") as raised:
        sweep(run, POINTS, store=store)
    assert "function" not in str(raised.value)
    assert contents(store) == before


HALVED = {
    "rungs": (lambda store: raced(store, rungs=[1, 4]), r"rungs was \[1, 3\] and is \[1, 4\]"),
    "keep": (lambda store: raced(store, keep=0.5), r"keep was 0\.33\d+ and is 0\.5"),
    "mode": (lambda store: raced(store, mode="max"), "mode was 'min' and is 'max'"),
    "resample": (
        lambda store: raced(store, resample=momentax.sweeps.mutate(jax.random.key(0))),
        r"resample was None and is 'Mutation\(",
    ),
    "sweep": (
        lambda store: sweep(lambda **p: p["beta"], RACERS, store=store),
        "it was begun by halve and is given to sweep",
    ),
}


@pytest.mark.parametrize("other", HALVED)
def test_another_race_is_refused_with_the_difference(tmp_path, other):
    call, text = HALVED[other]
    raced(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=text):
        call(tmp_path)
    assert contents(tmp_path) == before


def test_a_race_with_the_same_resample_goes_on(tmp_path):
    def changed(rung, settings, points):
        return settings

    for resample in (
        lambda: momentax.sweeps.mutate(jax.random.key(0)),
        lambda: functools.partial(changed),  # Its address is another each time.
    ):
        store = tmp_path / str(len(list(tmp_path.iterdir())))
        first = raced(store, resample=resample())
        again = raced(store, resample=resample())
        assert again.report.resumed == 2 * len(RACERS)
        assert same(first, again)


def test_static_values_without_a_name_are_the_same_at_another_address(tmp_path):
    def points():
        return grid(method=[momentax.heavy_ball(0.5), functools.partial(max)], beta=[0.0, 0.9])

    def of(method, beta):
        return beta * (2.0 if isinstance(method, functools.partial) else 3.0)

    sweep(of, points(), store=tmp_path)
    assert sweep(of, points(), store=tmp_path).report.resumed == 4


def test_a_folder_of_other_things_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    (tmp_path / "function.txt").write_text("precious")
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"holds thesis\.tex and no about\.json, .* new or empty"):
        sweep(run, POINTS, store=tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("below", [False, True])
def test_a_file_where_the_folder_must_be_is_refused(tmp_path, below):
    (tmp_path / "file").write_text("precious")
    path = tmp_path / "file" / "store" if below else tmp_path / "file"
    with pytest.raises(OSError, match=r"cannot be used: a file stands where a folder must be"):
        sweep(run, POINTS, store=path)
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "{}", '{"points": 3}', '{"points": {"a": 3}}', "\udcff"]
)
def test_an_unreadable_about_is_refused(store, text):
    (store / "about.json").write_bytes(text.encode(errors="surrogateescape"))
    before = contents(store)
    with pytest.raises(ValueError, match=r"cannot be read .* give another folder, or delete this"):
        sweep(run, POINTS, store=store)
    assert contents(store) == before


def test_a_missing_function_is_refused(store):
    (store / "function.txt").unlink()
    with pytest.raises(ValueError, match="cannot be read"):
        sweep(run, POINTS, store=store)


def test_a_damaged_text_of_the_function_is_mended(store):
    whole = (store / "function.txt").read_bytes()
    (store / "function.txt").write_bytes(whole[:10] + b"\xff")
    assert sweep(run, POINTS, store=store).report.resumed == len(POINTS)
    assert (store / "function.txt").read_bytes() == whole


def test_killed_before_the_first_batch_begins_anew(tmp_path):
    # Whatever of the first two files was there, nobody's work is lost.
    (tmp_path / "function.txt").write_text("of another function")
    (tmp_path / ".about.json.tmp").write_text("half")
    sweep(run, POINTS, batch_size=4, store=tmp_path)
    assert sweep(run, POINTS, store=tmp_path).report.resumed == len(POINTS)


FINGERPRINT = """
import sys
import jax, jax.numpy as jnp, numpy as np
from momentax import grid, sweep
jax.config.update("jax_num_cpu_devices", 2)
mesh = jax.sharding.Mesh(np.array(jax.devices()), ("a long name",))
spec = jax.sharding.PartitionSpec()

@jax.custom_jvp
def f(x):
    return jnp.sin(x)

@f.defjvp
def _(primals, tangents):
    return f(*primals), tangents[0] * jnp.cos(*primals)

@jax.custom_vjp
def g(x):
    return x * x

g.defvjp(lambda x: (g(x), x), lambda x, y: (2 * x * y,))

def run(method, beta):
    jax.debug.callback(lambda x: None, beta)
    jax.debug.print("{x}", x=beta)
    y = jax.pure_callback(np.sin, jax.ShapeDtypeStruct((), np.float32), beta,
                          vmap_method="sequential")
    return {"c": jax.grad(f)(beta) + jax.grad(g)(y), "a": f(beta), "b": {"z": y, "y": beta}}

methods = [lambda: 0, type("Method", (), {"__call__": lambda self: 0})()]
points = grid(method=methods, beta=[0.1, 0.2])
print(sweep(run, points, store=sys.argv[1]).report.resumed, file=sys.stderr)
"""


def test_the_same_function_is_the_same_in_another_process(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(FINGERPRINT)
    resumed = []
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, script, tmp_path / "store"],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        resumed.append(int(done.stderr.split()[-1]))
    assert resumed == [0, 4]


# Damaged


def truncated(path):
    path.write_bytes(path.read_bytes()[:-7])


def flipped(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def emptied(path):
    path.write_bytes(b"")


def renamed(path):
    digest = path.name.split(".")[1]
    path.rename(path.with_name(path.name.replace(digest, digest[::-1])))


def no_digest(path):
    path.rename(path.with_name("batch-3.npz"))


def no_archive(path):
    content = b"no archive"
    path.unlink()
    name = f"batch-00000000-00000003.{hashlib.sha256(content).hexdigest()}.npz"
    (path.parent / name).write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [truncated, flipped, emptied, renamed, no_digest, no_archive],
    ids=lambda f: f.__name__,
)
def test_a_damaged_file_runs_again(store, damage):
    whole = {p.name: p.read_bytes() for p in store.iterdir()}
    result = sweep(run, POINTS, store=store)
    damage(batch_files(store)[1])
    (name,) = {p.name for p in store.iterdir() if whole.get(p.name) != p.read_bytes()}
    with pytest.warns(UserWarning, match="1 damaged file in the store .* it run again") as warned:
        again = sweep(run, POINTS, store=store)
    assert len(warned) == 1
    assert warned[0].filename == __file__
    assert name in str(warned[0].message)
    assert again.report.damaged == (name,)
    assert again.report.resumed == len(POINTS) - 4
    assert same(again, result)
    assert {p.name: p.read_bytes() for p in store.iterdir()} == whole
    assert sweep(run, POINTS, store=store).report.damaged == ()


def test_all_damaged_files_are_named(store):
    whole = {p.name: p.read_bytes() for p in store.iterdir()}
    files = batch_files(store)
    for path, damage in zip(files[::2], [truncated, flipped, emptied], strict=False):
        damage(path)
    with pytest.warns(UserWarning, match="3 damaged files in the store .* them run again"):
        again = sweep(run, POINTS, store=store)
    assert set(again.report.damaged) == {path.name for path in files[::2]}
    assert {p.name: p.read_bytes() for p in store.iterdir()} == whole


def test_damaged_files_of_a_race_are_told_once_at_each_rung(tmp_path):
    result = raced(tmp_path)
    files = batch_files(tmp_path)
    whole = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    for path in (files[0], files[-1]):
        flipped(path)
    with pytest.warns(UserWarning, match="1 damaged file ") as warned:
        again = raced(tmp_path)
    assert [files[0].name in str(w.message) for w in warned] == [True, False]
    assert {w.filename for w in warned} == {__file__}
    assert again.report.damaged == (files[0].name, files[-1].name)
    assert same(again, result)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == whole


def test_a_file_that_cannot_be_read_stays(store, monkeypatch):
    # A disk that fails for a moment must not cost what is whole.
    name = batch_files(store)[1].name
    before, read = contents(store), Path.read_bytes

    def failing(path):
        if path.name == name:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(path)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", failing)
        with pytest.raises(OSError, match=f"{name} in the store .* cannot be used: Input/output"):
            sweep(run, POINTS, store=store)
    assert contents(store) == before
    assert sweep(run, POINTS, store=store).report.resumed == len(POINTS)


# Full or unwritable


@pytest.mark.parametrize("function", ["replace", "fsync", "open"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_a_disk_that_fails_keeps_the_finished_batches(tmp_path, monkeypatch, function, number):
    whole, kept = sweep(run, POINTS, batch_size=2), []
    module = builtins if function == "open" else os
    working = getattr(module, function)
    for writes in (0, 1, 2, 3, 5):
        left = [writes]

        def failing(*arguments, left=left, **settings):
            if function != "open" or str(arguments[0]).endswith(".tmp"):
                left[0] -= 1
                if left[0] < 0:
                    raise OSError(number, os.strerror(number))
            return working(*arguments, **settings)

        with monkeypatch.context() as patched:
            patched.setattr(module, function, failing)
            with pytest.raises(OSError, match="could not be written") as error:
                sweep(run, POINTS, batch_size=2, store=tmp_path)
        assert error.value.errno == number
        assert "the finished batches are kept, and the same call goes on" in str(error.value)
        kept.append(len(batch_files(tmp_path)))
    assert kept == sorted(kept)
    assert 0 < kept[-1] < 10
    again = sweep(run, POINTS, batch_size=2, store=tmp_path)
    assert again.report.resumed == 2 * kept[-1]
    assert same(again, whole)
    assert not list(tmp_path.glob(".*"))


FULL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
import jax.numpy as jnp
from momentax import grid, sweep

points = grid(beta=[0.0, 0.5, 0.75])

def run(beta):
    return jnp.full(int(sys.argv[2]), 1.0) * beta

try:
    sweep(run, points, batch_size=1, store=sys.argv[1])
except OSError as error:
    print(type(error).__name__, error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(sweep(run, points, batch_size=1, store=sys.argv[1]).values.sum())
"""


def test_a_file_that_the_system_cuts_off_is_not_kept(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(FULL)
    done = subprocess.run(
        [sys.executable, script, tmp_path / "store", "2000"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    error, total = done.stdout.splitlines()
    assert re.search(r"^OSError .*could not be written: File too large", error)
    assert float(total) == 2500.0


def test_the_same_sweep_twice_at_once_harms_nothing(tmp_path, monkeypatch):
    # The other one has kept the batch a moment before this one would.
    replace = os.replace

    def late(source, target):
        replace(source, target)
        if Path(target).name.startswith("batch-"):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    monkeypatch.setattr(os, "replace", late)
    result = sweep(run, POINTS, batch_size=4, store=tmp_path)
    monkeypatch.undo()
    again = sweep(run, POINTS, store=tmp_path)
    assert again.report.resumed == len(POINTS)
    assert same(again, result)


# Every kind of leaf


def payloads(beta, seed):
    """NaNs with payloads, infinities and a negative zero, by their bits."""
    bits = jnp.asarray([0x7FC00001, 0xFFA12345, 0x7F800000, 0x80000000, 1], jnp.uint32)
    return jax.lax.bitcast_convert_type(bits + jnp.asarray(seed * 0, jnp.uint32), jnp.float32)


def every_kind(beta, seed):
    def patterns(low, high, bits, dtype):
        return jax.lax.bitcast_convert_type((jnp.arange(low, high) + seed).astype(bits), dtype)

    narrow = {
        "bfloat16": patterns(0x7F70, 0x7FFF, jnp.uint16, jnp.bfloat16),
        "float8_e4m3fn": patterns(0, 250, jnp.uint8, jnp.float8_e4m3fn),
        "float8_e5m2": patterns(0, 250, jnp.uint8, jnp.float8_e5m2),
        "int4": (jnp.arange(-8, 6) + seed).astype(jnp.int4),
        "uint4": (jnp.arange(14) + seed).astype(jnp.uint4),
    }
    return {
        "narrow": narrow,
        "bool": jnp.arange(5) > seed,
        "complex": jax.lax.complex(jnp.full(2, -0.0), jnp.ones(2) * beta),
        "nan": payloads(beta, seed),
        "zero": jnp.zeros((0, 3)) * beta,
        "none": None,
        "tuple": (seed, [beta, jnp.float16(2)]),
        "bytes": jnp.arange(3, dtype=jnp.uint8),
        "diverged": False,
    }


def test_leaves_of_every_kind_survive_to_the_bit(tmp_path):
    points = repeat(grid(beta=[0.0, 0.5]), 3)
    plain = sweep(every_kind, points, batch_size=2)
    first = sweep(every_kind, points, batch_size=2, store=tmp_path)
    again = sweep(every_kind, points, batch_size=2, store=tmp_path)
    assert again.report.resumed == len(points)
    assert again.report.damaged == ()
    assert not again.diverged.any()
    assert jax.tree.structure(again.values) == jax.tree.structure(plain.values)
    for path, kept in jax.tree.leaves_with_path(again.values):
        name = jax.tree_util.keystr(path)
        for other in (plain, first):
            there = dict(jax.tree.leaves_with_path(other.values))[path]
            assert kept.dtype == there.dtype, name
            assert kept.shape == there.shape, name
            assert kept.tobytes() == there.tobytes(), name
    kept = again["narrow.bfloat16"][0, 0].view(np.uint16)
    np.testing.assert_array_equal(kept, np.arange(0x7F70, 0x7FFF, dtype=np.uint16))
    assert again["narrow.int4"].dtype == ml_dtypes.int4
    assert again.values["none"] is None


def test_states_with_random_keys_survive_in_a_race(tmp_path):
    def begin(beta):
        return {"key": jax.random.key(3), "x": jnp.bfloat16(1), "none": None}

    def further(state, beta):
        key, other = jax.random.split(state["key"])
        return {
            "key": key,
            "x": state["x"] + jax.random.normal(other, (), jnp.bfloat16),
            "none": None,
        }

    def call(store=None):
        return halve(
            begin, further, lambda s: s["x"].astype(jnp.float32), grid(beta=[0.0, 0.5, 0.75]),
            rungs=2, keep=0.7, batch_size=2, store=store,
        )  # fmt: skip

    plain, _ = call(), call(tmp_path)
    again = call(tmp_path)
    assert again.report.resumed == 5
    assert again.report.programs == 0
    assert same(plain, again)
    for ours, theirs in zip(
        jax.tree.leaves(again.states), jax.tree.leaves(plain.states), strict=True
    ):
        if jnp.issubdtype(ours.dtype, jax.dtypes.prng_key):
            ours, theirs = jax.random.key_data(ours), jax.random.key_data(theirs)
        assert np.asarray(ours).tobytes() == np.asarray(theirs).tobytes()


def test_a_store_is_quiet(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sweep(run, POINTS, store=str(tmp_path / "a" / "folder of its own"))
        sweep(run, POINTS, store=tmp_path / "a" / "folder of its own")
