"""A store keeps every finished batch, for its own sweep and for no other."""

import builtins
import errno
import functools
import hashlib
import json
import os
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
from momentax.sweeps._run._lock import LOCK_FILE, StoreLock

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


def halve_racers(store=None, points=RACERS, **settings):
    how = {"rungs": [1, 3], "batch_size": 4, "store": store} | settings
    return halve(start, advance, score, points, **how)


def contents(folder):
    """Return the bytes and the time of each file in a folder."""
    return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in Path(folder).iterdir()}


def batch_files(folder):
    return sorted(Path(folder).glob("batch-*.npz"))


def indices_in(folder):
    """Return the indices of the points in a store; with halving, those of each rung."""
    found = []
    for path in batch_files(folder):
        with np.load(path) as file:
            found += file["points"].tolist()
    return found


def same_bits(a, b):
    """Whether two results are equal to the last bit."""
    a, b = (jax.tree.leaves((r.values, r.diverged)) for r in (a, b))
    return all(
        np.asarray(x).tobytes() == np.asarray(y).tobytes() for x, y in zip(a, b, strict=True)
    )


def first_devices(count):
    return Mesh(np.array(jax.devices()[:count]), ("points",))


@pytest.fixture
def store(tmp_path):
    """The store of a finished sweep of `run`, in batches of 4."""
    sweep(run, POINTS, batch_size=4, store=tmp_path / "store")
    return tmp_path / "store"


def stop_sweep(monkeypatch, store, after, points=POINTS, **settings):
    """Stop a sweep after a number of batches."""
    stop_call(monkeypatch, store, after, lambda: sweep(run, points, store=store, **settings))


def stop_call(monkeypatch, store, after, call):
    replace = os.replace

    def fail_when_full(source, target):
        if Path(target).name.startswith("batch-") and len(batch_files(store)) >= after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", fail_when_full)
        with pytest.raises(OSError, match="No space left"):
            call()
    assert len(batch_files(store)) == after


# Continuing


def test_a_finished_store_gives_the_result_without_running(store):
    before = contents(store)
    again = sweep(run, POINTS, batch_size=4, store=store)
    assert same_bits(again, sweep(run, POINTS, batch_size=4))
    assert again.report.resumed == len(POINTS)
    assert again.report.programs == 0
    assert again.report.batch_size == 4
    assert contents(store) == before


def test_a_resumed_sweep_keeps_the_batches_of_the_first(monkeypatch, tmp_path):
    points = grid(method=["slow", "fast"], learning_rate=np.linspace(0.1, 1, 9), beta=[0.0])
    whole = sweep(run, points, batch_size=4, store=tmp_path / "whole")
    names = [path.name for path in batch_files(tmp_path / "whole")]
    # A batch in the middle is missing, so that the remaining points are not contiguous.
    stop_sweep(monkeypatch, tmp_path / "store", 4, points=points, batch_size=4)
    batch_files(tmp_path / "store")[1].unlink()
    indices = indices_in(tmp_path / "store")
    again = sweep(run, points, store=tmp_path / "store")
    assert again.report.resumed == len(indices)
    assert same_bits(again, whole)
    assert [path.name for path in batch_files(tmp_path / "store")] == names


def test_auto_uses_the_batch_size_of_the_store(monkeypatch, tmp_path):
    stop_sweep(monkeypatch, tmp_path, 2, batch_size=6)
    again = sweep(run, POINTS, store=tmp_path)
    assert again.report.batch_size == 6
    assert again.report.tried == ()
    assert same_bits(again, sweep(run, POINTS, batch_size=6))


def test_auto_records_the_batch_size_it_chose(monkeypatch, tmp_path):
    points = grid(method=["slow"], learning_rate=np.linspace(0.1, 1, 50), beta=[0.0])
    stop_sweep(monkeypatch, tmp_path, 1, points=points)
    kept = json.loads((tmp_path / "about.json").read_text())["batch"]
    again = sweep(run, points, store=tmp_path)
    assert again.report.batch_size == kept
    assert same_bits(again, sweep(run, points, batch_size=kept))


def test_a_batch_size_given_before_one_was_chosen_is_recorded(monkeypatch, tmp_path):
    # The first run was killed before it chose a batch size, and the second one stopped.
    sweep(run, POINTS, batch_size=4, store=tmp_path)
    for path in batch_files(tmp_path):
        path.unlink()
    about = json.loads((tmp_path / "about.json").read_text())
    (tmp_path / "about.json").write_text(json.dumps(about | {"batch": 0}))
    stop_sweep(monkeypatch, tmp_path, 1, batch_size=4)
    assert sweep(run, POINTS, store=tmp_path).report.batch_size == 4


def test_another_batch_size_is_refused(store):
    before = contents(store)
    with pytest.raises(
        ValueError,
        match="was started with batch_size=4, got 6: pass batch_size=4",
    ):
        sweep(run, POINTS, batch_size=6, store=store)
    assert contents(store) == before


def test_a_sweep_continues_with_more_or_fewer_devices(monkeypatch, tmp_path):
    whole = sweep(run, POINTS, batch_size=4)
    for first, then in [(1, 2), (2, 1)]:
        store = tmp_path / f"{first}"
        stop_sweep(monkeypatch, store, 2, batch_size=4, mesh=first_devices(first))
        again = sweep(run, POINTS, batch_size=4, store=store, mesh=first_devices(then))
        assert again.report.resumed == 8
        assert again.report.devices == then
        for ours, theirs in zip(
            jax.tree.leaves(again.values), jax.tree.leaves(whole.values), strict=True
        ):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_halving_continues_from_its_store(monkeypatch, tmp_path):
    whole = halve_racers(tmp_path / "whole")
    assert same_bits(whole, halve_racers())
    names = [path.name for path in batch_files(tmp_path / "whole")]
    for after in range(len(names)):
        store = tmp_path / f"{after}"
        stop_call(monkeypatch, store, after, lambda store=store: halve_racers(store))
        resumed = len(indices_in(store))
        again = halve_racers(store)
        assert same_bits(again, whole)
        np.testing.assert_array_equal(again.survivors, whole.survivors)
        np.testing.assert_array_equal(again.states, whole.states)
        assert [path.name for path in batch_files(store)] == names
        assert again.report.resumed == resumed


# Stores of another sweep


def other_constant(method, learning_rate, beta):
    result = run(method, learning_rate, beta)
    return {"x": result["x"] * 2, "loss": result["loss"]}


def make_run(data):
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
        r"its function differs, in 2 lines of its jaxpr, which is in function\.txt:\n"
        r"(  \+ \w+:f32\[3\] = mul \w+ 2\.0:f32\[\]\n){2} \. Give another folder",
    ),
    "reduce": (
        lambda store: sweep(run, POINTS, store=store, reduce=lambda result: result["loss"]),
        r"its function differs, in \d+ lines",
    ),
    "halve": (halve_racers, r"it was started by sweep and is given to halve"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_another_sweep_is_refused_with_the_difference(store, other):
    call, text = OTHERS[other]
    before = contents(store)
    with pytest.raises(ValueError, match=text) as raised:
        call(store)
    assert "belongs to another sweep" in str(raised.value)
    assert "nothing in it was changed" in str(raised.value)
    assert contents(store) == before


def test_another_array_in_the_closure_of_run_is_refused(tmp_path):
    points = grid(beta=[0.0, 0.5])
    data = np.ones(1000, np.float32)
    sweep(make_run(data), points, store=tmp_path)
    before = contents(tmp_path)
    assert sweep(make_run(data.copy()), points, store=tmp_path).report.resumed == 2
    data[500] += 1e-7
    with pytest.raises(ValueError, match="the arrays that its function closes over have changed"):
        sweep(make_run(data), points, store=tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("inner", ["jit", "scan", "cond"])
def test_another_array_inside_a_function_that_run_calls_is_refused(tmp_path, inner):
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
    with pytest.raises(ValueError, match="the arrays that its function closes over have changed"):
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
    "rungs": (
        lambda store: halve_racers(store, rungs=[1, 4]),
        r"rungs was \[1, 3\] and is \[1, 4\]",
    ),
    "keep": (lambda store: halve_racers(store, keep=0.5), r"keep was 0\.33\d+ and is 0\.5"),
    "mode": (lambda store: halve_racers(store, mode="max"), "mode was 'min' and is 'max'"),
    "resample": (
        lambda store: halve_racers(store, resample=momentax.sweeps.mutate(jax.random.key(0))),
        r"resample was None and is 'Mutation\(",
    ),
    "sweep": (
        lambda store: sweep(lambda **p: p["beta"], RACERS, store=store),
        "it was started by halve and is given to sweep",
    ),
}


@pytest.mark.parametrize("other", HALVED)
def test_another_halving_is_refused_with_the_difference(tmp_path, other):
    call, text = HALVED[other]
    halve_racers(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=text):
        call(tmp_path)
    assert contents(tmp_path) == before


def test_halving_with_the_same_resample_continues(tmp_path):
    def changed(rung, settings, points):
        return settings

    for resample in (
        lambda: momentax.sweeps.mutate(jax.random.key(0)),
        lambda: functools.partial(changed),  # Its address differs each time.
    ):
        store = tmp_path / str(len(list(tmp_path.iterdir())))
        first = halve_racers(store, resample=resample())
        again = halve_racers(store, resample=resample())
        assert again.report.resumed == 2 * len(RACERS)
        assert same_bits(first, again)


def test_static_values_are_the_same_at_another_address(tmp_path):
    def points():
        return grid(method=[momentax.heavy_ball(0.5), functools.partial(max)], beta=[0.0, 0.9])

    def of(method, beta):
        return beta * (2.0 if isinstance(method, functools.partial) else 3.0)

    sweep(of, points(), store=tmp_path)
    assert sweep(of, points(), store=tmp_path).report.resumed == 4


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    (tmp_path / "function.txt").write_text("precious")
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"holds thesis\.tex and no about\.json, .* new or empty"):
        sweep(run, POINTS, store=tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("below", [False, True])
def test_a_file_in_place_of_the_folder_is_refused(tmp_path, below):
    (tmp_path / "file").write_text("precious")
    path = tmp_path / "file" / "store" if below else tmp_path / "file"
    with pytest.raises(OSError, match=r"cannot be used: there is a file where a folder must be"):
        sweep(run, POINTS, store=path)
    assert (tmp_path / "file").read_text() == "precious"


DAMAGED_ABOUT = ["", "{", "[]", "3", "{}", '{"points": 3}', '{"points": {"a": 3}}', "\udcff", None]


def damage_about(store, text):
    if text is None:
        (store / "about.json").unlink()
    else:
        (store / "about.json").write_bytes(text.encode(errors="surrogateescape"))


@pytest.mark.parametrize("text", DAMAGED_ABOUT)
def test_a_damaged_about_is_written_again_from_the_batches(store, text):
    whole = {p.name: p.read_bytes() for p in store.iterdir()}
    damage_about(store, text)
    batch_files(store)[1].unlink()
    with pytest.warns(UserWarning, match=r"about\.json .* it was written again from") as warned:
        again = sweep(run, POINTS, store=store)
    assert len(warned) == 1
    assert warned[0].filename == __file__
    assert again.report.resumed == len(POINTS) - 4
    assert again.report.batch_size == 4
    assert {p.name: p.read_bytes() for p in store.iterdir()} == whole


@pytest.mark.parametrize(
    "entry",
    [{"batch": wrong} for wrong in ("x", [2], -1, True, 2.5, None)]
    + [{"function": wrong} for wrong in ("x", 3, "0" * 64)]
    + [{"points": {"learning_rate": {"learning_rate": 3}}}],
)
def test_a_damaged_entry_of_about_is_written_again_from_the_batches(store, entry):
    whole = {p.name: p.read_bytes() for p in store.iterdir()}
    about = json.loads(whole["about.json"])
    (store / "about.json").write_text(json.dumps(about | entry))
    with pytest.warns(
        UserWarning, match=rf"about\.json .*{next(iter(entry))}.* written again from"
    ):
        again = sweep(run, POINTS, store=store)
    assert again.report.resumed == len(POINTS)
    assert {p.name: p.read_bytes() for p in store.iterdir()} == whole


@pytest.mark.parametrize("text", DAMAGED_ABOUT)
def test_a_damaged_about_of_another_sweep_is_refused(store, text):
    damage_about(store, text)
    before = contents(store)
    for call in (lambda: sweep(run, RACERS_OF_RUN, store=store), lambda: halve_racers(store)):
        with pytest.raises(ValueError, match=r"batches belong to another sweep.* give another fol"):
            call()
    for path in batch_files(store):
        truncate(path)
    before = contents(store)
    with pytest.raises(ValueError, match=r"batches are damaged as well.* or delete this one to s"):
        sweep(run, POINTS, store=store)
    assert contents(store) == before


RACERS_OF_RUN = grid(method=["slow", "fast"], learning_rate=np.linspace(0.1, 1, 5), beta=[0.0, 0.8])


def test_a_damaged_about_of_a_halving_is_written_again(tmp_path):
    first = halve_racers(tmp_path)
    whole = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    damage_about(tmp_path, "{")
    with pytest.warns(UserWarning, match="written again from the batches"):
        again = halve_racers(tmp_path)
    assert same_bits(first, again)
    assert again.report.programs == 0
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == whole


def test_a_damaged_about_without_batches_starts_again(tmp_path):
    damage_about(tmp_path, "{")
    assert sweep(run, POINTS, batch_size=4, store=tmp_path).report.resumed == 0
    assert sweep(run, POINTS, store=tmp_path).report.resumed == len(POINTS)


def test_an_about_that_cannot_be_read_is_kept(store, monkeypatch):
    before, read = contents(store), Path.read_bytes

    def failing(path):
        if path.name == "about.json":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(path)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", failing)
        with pytest.raises(OSError, match=r"about\.json in the store .* cannot be used: Input"):
            sweep(run, POINTS, store=store)
    assert contents(store) == before


def test_a_missing_text_of_the_function_is_repaired(store):
    whole = (store / "function.txt").read_bytes()
    (store / "function.txt").unlink()
    assert sweep(run, POINTS, store=store).report.resumed == len(POINTS)
    assert (store / "function.txt").read_bytes() == whole


def test_a_damaged_text_of_the_function_is_repaired(store):
    whole = (store / "function.txt").read_bytes()
    (store / "function.txt").write_bytes(whole[:10] + b"\xff")
    assert sweep(run, POINTS, store=store).report.resumed == len(POINTS)
    assert (store / "function.txt").read_bytes() == whole


def test_a_sweep_killed_before_the_first_batch_starts_again(tmp_path):
    # Without about.json no batch was finished, so any of the other files can be replaced.
    (tmp_path / "function.txt").write_text("of another function")
    (tmp_path / ".about.json.tmp").write_text("half")
    sweep(run, POINTS, batch_size=4, store=tmp_path)
    assert sweep(run, POINTS, store=tmp_path).report.resumed == len(POINTS)


# Damaged files


def truncate(path):
    path.write_bytes(path.read_bytes()[:-7])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"")


def change_the_digest(path):
    digest = path.name.split(".")[1]
    path.rename(path.with_name(path.name.replace(digest, digest[::-1])))


def drop_the_digest(path):
    path.rename(path.with_name("batch-3.npz"))


def replace_the_content(path):
    content = b"no archive"
    path.unlink()
    name = f"batch-00000000-00000003.{hashlib.sha256(content).hexdigest()}.npz"
    (path.parent / name).write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [truncate, flip_a_bit, empty, change_the_digest, drop_the_digest, replace_the_content],
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
    assert same_bits(again, result)
    assert {p.name: p.read_bytes() for p in store.iterdir()} == whole
    assert sweep(run, POINTS, store=store).report.damaged == ()


def test_all_damaged_files_are_named(store):
    whole = {p.name: p.read_bytes() for p in store.iterdir()}
    files = batch_files(store)
    for path, damage in zip(files[::2], [truncate, flip_a_bit, empty], strict=False):
        damage(path)
    with pytest.warns(UserWarning, match="3 damaged files in the store .* them run again"):
        again = sweep(run, POINTS, store=store)
    assert set(again.report.damaged) == {path.name for path in files[::2]}
    assert {p.name: p.read_bytes() for p in store.iterdir()} == whole


def test_damaged_files_of_a_halving_are_reported_once_per_rung(tmp_path):
    result = halve_racers(tmp_path)
    files = batch_files(tmp_path)
    whole = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    for path in (files[0], files[-1]):
        flip_a_bit(path)
    with pytest.warns(UserWarning, match="1 damaged file ") as warned:
        again = halve_racers(tmp_path)
    assert [files[0].name in str(w.message) for w in warned] == [True, False]
    assert {w.filename for w in warned} == {__file__}
    assert again.report.damaged == (files[0].name, files[-1].name)
    assert same_bits(again, result)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == whole


def test_a_file_that_cannot_be_read_is_kept(store, monkeypatch):
    # A read error may be temporary, so the file must stay.
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


# Disks that fail


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
        assert "the finished batches are kept, and the same call continues" in str(error.value)
        kept.append(len(batch_files(tmp_path)))
    assert kept == sorted(kept)
    assert 0 < kept[-1] < 10
    again = sweep(run, POINTS, batch_size=2, store=tmp_path)
    assert again.report.resumed == 2 * kept[-1]
    assert same_bits(again, whole)
    assert not list(tmp_path.glob(".*"))


def test_the_same_sweep_can_run_twice_at_once(tmp_path, monkeypatch):
    # The other process has written the file a moment before this one.
    replace = os.replace

    def replace_late(source, target):
        replace(source, target)
        if Path(target).name.startswith("batch-"):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    monkeypatch.setattr(os, "replace", replace_late)
    result = sweep(run, POINTS, batch_size=4, store=tmp_path)
    monkeypatch.undo()
    again = sweep(run, POINTS, store=tmp_path)
    assert again.report.resumed == len(POINTS)
    assert same_bits(again, result)


# Several processes and threads


def test_a_store_that_this_process_uses_is_refused_until_it_is_done(tmp_path):
    lock = StoreLock(tmp_path)
    with pytest.raises(BlockingIOError, match=f"by another sweep of this process, {os.getpid()};"):
        sweep(run, POINTS, store=tmp_path)
    with pytest.raises(BlockingIOError, match="is in use by another sweep of this process"):
        halve_racers(tmp_path)
    assert os.listdir(tmp_path) == [LOCK_FILE]
    lock.release()
    assert os.listdir(tmp_path) == []
    sweep(run, POINTS, store=tmp_path)
    assert sweep(run, POINTS, store=tmp_path).report.resumed == len(POINTS)


@pytest.mark.parametrize("error", [errno.ENOLCK, errno.ENOTSUP])
def test_a_file_system_without_locks_is_used_without_one(tmp_path, monkeypatch, error):
    def fail(*arguments):
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr("fcntl.lockf", fail)
    sweep(run, POINTS, store=tmp_path)
    assert sweep(run, POINTS, store=tmp_path).report.resumed == len(POINTS)


def test_files_that_a_killed_process_left_are_deleted(store):
    for name in (".momentax-0123.tmp", LOCK_FILE):
        (store / name).write_text("process 1 on another")
    sweep(run, POINTS, store=store)
    assert not list(store.glob(".*"))


# Every kind of leaf


def payloads(beta, seed):
    """Return NaNs with payloads, an infinity and a negative zero, by their bits."""
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


def test_leaves_of_every_kind_are_restored_bit_for_bit(tmp_path):
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


def test_states_with_random_keys_are_restored(tmp_path):
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
    assert same_bits(plain, again)
    for ours, theirs in zip(
        jax.tree.leaves(again.states), jax.tree.leaves(plain.states), strict=True
    ):
        if jnp.issubdtype(ours.dtype, jax.dtypes.prng_key):
            ours, theirs = jax.random.key_data(ours), jax.random.key_data(theirs)
        assert np.asarray(ours).tobytes() == np.asarray(theirs).tobytes()


def test_a_store_gives_no_warnings(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sweep(run, POINTS, store=str(tmp_path / "a" / "folder of its own"))
        sweep(run, POINTS, store=tmp_path / "a" / "folder of its own")
