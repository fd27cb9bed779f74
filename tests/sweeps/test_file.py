"""The file of a result: bit for bit, readable without momentax, complete or absent."""

import collections
import errno
import io
import json
import math
import os
import pickle
import re
import resource
import threading
import zipfile
from dataclasses import dataclass
from typing import Any

import chex
import hypothesis.strategies as st
import jax
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings

import momentax
from momentax import grid
from momentax.sweeps import SweepResult, repeat, zipped
from momentax.sweeps._result import _file
from tests.sweeps.results import (
    POINTS,
    REPORT,
    Pair,
    make_result,
    named,
    random_values,
    results,
    small_result,
)

NAN = 0x7FC12345


def unusual_values(dtype):
    """Return every bit pattern of a narrow dtype, or at least six unusual ones of a wide dtype."""
    if dtype.itemsize == 1 and dtype.name.startswith(("float8", "int8", "uint8")):
        return np.arange(256, dtype=np.uint8).view(dtype)
    if dtype.itemsize == 2 and dtype.kind in "fViu":
        return np.arange(2**16, dtype=np.uint16).view(dtype)
    if dtype.kind == "f":
        bits = np.array([NAN, NAN | 1 << 31, 0x7F800001, 1, 1 << 31, 0x7F800000], np.uint32)
        return bits.view(np.float32) if dtype == np.float32 else np.repeat(bits, 2).view(dtype)
    return np.array([0, 1, 1, 0, 1, 1]).astype(dtype)


DTYPES = [
    "bool", "int8", "uint8", "int16", "int32", "int64", "uint64",
    "float16", "float32", "float64", "complex64", "complex128",
    "bfloat16", "int4", "uint4", "int2", "uint2",
    "float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz", "float8_e4m3fn", "float8_e4m3fnuz",
    "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu", "float4_e2m1fn",
]  # fmt: skip


def bits(array):
    return array.dtype, array.shape, np.ascontiguousarray(array).tobytes()


@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_is_restored_bit_for_bit(name, tmp_path):
    leaf = unusual_values(np.dtype(getattr(ml_dtypes, name, name)))
    leaf = leaf[: len(leaf) // 2 * 2].reshape(2, -1)
    make_result(grid(a=[1, 2]), {"x": leaf}).save(tmp_path / "r")
    again = SweepResult.load(tmp_path / "r")
    assert bits(again["x"]) == bits(leaf)
    with np.load(tmp_path / "r", allow_pickle=False) as archive:
        plain = archive["values/x"]
    assert plain.dtype.isbuiltin == 1
    np.testing.assert_array_equal(
        plain, leaf.astype(plain.dtype)
    )  # NumPy alone reads the same numbers.


def test_a_file_can_be_read_without_momentax(tmp_path):
    path = tmp_path / "sweep.npz"
    points = repeat(grid(method=[named, "x"], beta=[0.0, 0.9]), 2)
    swept = make_result(
        points, {"loss": random_values(points), "ß/β": random_values(points, 1, 3)}, [2]
    )
    swept.save(path)
    with np.load(path, allow_pickle=False) as archive:
        assert sorted(archive.files) == [
            "about", "axes/beta", "axes/method", "axes/seed", "diverged", "values/loss",
            "values/ß/β",
        ]  # fmt: skip
        about = json.loads(archive["about"].item())
        np.testing.assert_array_equal(archive["values/loss"], swept["loss"])
        np.testing.assert_array_equal(archive["values/ß/β"], swept["ß/β"])
        np.testing.assert_array_equal(archive["axes/beta"], points.axes["beta"])
        assert archive["axes/method"].tolist() == ["named", "x"]
        np.testing.assert_array_equal(archive["diverged"], swept.diverged)
    assert about["format"] == 1
    assert about["momentax"] == momentax.__version__
    assert about["dims"] == {"method": ["method"], "beta": ["beta"], "seed": ["seed"]}
    assert "report" not in about


@given(results(), st.sampled_from([{}, {"score": "max", "b": "min"}]))
@settings(max_examples=25)
def test_a_result_is_restored(tmp_path_factory, swept, modes):
    swept = SweepResult(swept.points, swept.values, swept.diverged, REPORT, modes)
    path = tmp_path_factory.mktemp("files") / "r"
    swept.save(os.fspath(path))
    again = SweepResult.load(os.fspath(path))
    assert jax.tree.structure(again) == jax.tree.structure(swept)
    for one, two in zip(jax.tree.leaves(swept), jax.tree.leaves(again), strict=True):
        assert bits(one) == bits(two)
    assert again.report is None
    assert again.modes == modes
    assert {name: again.mode_of(name) for name in modes} == modes
    other = path.with_name("other")
    SweepResult(swept.points, swept.values, swept.diverged, None, modes).save(other)
    assert other.read_bytes() == path.read_bytes()
    assert list(again.points.dims) == list(swept.points.dims)


TREES = {
    "bare": 0,
    "list": [0, (1, []), {}],
    "tuple": (0,),
    "none": {"a": None, "b": (None, 0)},
    "numbered": {3: 0, 1: {2.5: 1}},
    "odd names": {"": 0, "a/b": 1, "a": {"b": 2}, "a.b": 3, "nul\0": 4, "nul": 5, "\ud800": 6},
    "unprintable names": {"nul\0": 0, "nul": 1, "\ud800": 2, "a\nb": 3},
    "about": {"about": 0, "diverged": 1, "file": 2},
    "empty": {},
}


@pytest.mark.parametrize("case", TREES)
def test_containers_are_restored(case, tmp_path):
    values = jax.tree.map(lambda i: np.full((3, 2), i), TREES[case])
    make_result(POINTS, values).save(tmp_path / "r")
    again = SweepResult.load(tmp_path / "r").values
    assert jax.tree.structure(again) == jax.tree.structure(values)
    chex.assert_trees_all_equal(again, values)


@jax.tree_util.register_dataclass
@dataclass
class Measured:
    loss: Any


def test_other_containers_are_restored_as_dictionaries(tmp_path):
    one = np.ones((3, 2))
    ordered = collections.OrderedDict(z=one, a=one * 2)
    make_result(POINTS, [Pair(one, {"x": one}), ordered, Measured(one)]).save(tmp_path / "r")
    chex.assert_trees_all_equal(
        SweepResult.load(tmp_path / "r").values,
        [{"first": one, "second": {"x": one}}, {"z": one, "a": one * 2}, {"loss": one}],
    )


def test_static_axes_are_restored_as_words_bools_numbers_and_names(tmp_path):
    words = [named, "word", True, None, np.bool_(False), lambda: 1, lambda: 2]
    numbered = [None, 0.5, 2, -1, None, True, math.inf]
    make_result(zipped(a=words, b=numbered), np.arange(7)).save(tmp_path / "r")
    again = SweepResult.load(tmp_path / "r")
    expected = ["named", "word", True, None, False, "<lambda>", "<lambda> (2)"]
    assert again.points.axes["b"].tolist() == numbered
    assert again.points.axes["a"].tolist() == expected
    assert list(map(type, again.points.axes["a"])) == list(map(type, expected))
    assert again.where(a="named")["value"].tolist() == [0]
    again.save(tmp_path / "r")
    assert SweepResult.load(tmp_path / "r").points.axes["a"].tolist() == expected


def test_nothing_is_added_to_the_name_and_links_are_followed(tmp_path):
    small_result().save(tmp_path / "plain")
    assert os.listdir(tmp_path) == ["plain"]
    (tmp_path / "link").symlink_to(tmp_path / "plain")
    make_result(POINTS, np.ones((3, 2))).save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert SweepResult.load(tmp_path / "plain")["value"].all()


def test_a_missing_folder_is_named(tmp_path):
    for folder, wrong in (("none", "does not exist"), ("file", "is not a folder")):
        (tmp_path / "file").touch()
        with pytest.raises(OSError, match=rf"the folder .*{folder} {wrong}, so make it") as caught:
            small_result().save(tmp_path / folder / "r.npz")
        assert "unchanged" not in str(caught.value)


def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "r.npz"
    small_result().save(path)
    before = path.read_bytes()
    large = make_result(POINTS, np.zeros((3, 2, 50_000)))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # The largest file allowed.
    try:
        with pytest.raises(OSError, match=r"r\.npz could not be written: .*make room"):
            large.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["r.npz"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyError()])
def test_a_failure_at_the_end_leaves_the_old_file(tmp_path, monkeypatch, call, error):
    path = tmp_path / "r.npz"
    small_result().save(path)
    before = path.read_bytes()

    def fail(*args):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(os, call, fail)
        with pytest.raises(type(error)) as caught:
            make_result(POINTS, np.zeros((3, 2))).save(path)
    if isinstance(error, OSError):
        assert f"{path} could not be written: No space left" in str(caught.value)
        assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["r.npz"]


def test_an_error_names_the_path(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none/r could not be written: No such file"):
        small_result().save(tmp_path / "none" / "r")
    with pytest.raises(IsADirectoryError, match="could not be written"):
        small_result().save(tmp_path)
    assert not os.listdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="none"):
        SweepResult.load(tmp_path / "none")


def test_values_without_the_shape_of_the_points_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"shape \(2, 3\) for points of shape \(3, 2\)"):
        make_result(POINTS, np.zeros((2, 3))).save(tmp_path / "r")
    assert not os.listdir(tmp_path)


REFUSED = "is not the result of a sweep, or is damaged"


def test_a_truncated_file_is_refused(tmp_path):
    path = tmp_path / "r.npz"
    small_result().save(path)
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=rf"r\.npz {REFUSED}"):
            SweepResult.load(path)


def test_a_changed_bit_is_detected_or_has_no_effect(tmp_path):
    path, intact = tmp_path / "r.npz", small_result()
    intact.save(path)
    whole = path.read_bytes()
    refusals = []
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            again = SweepResult.load(path)
        except ValueError as error:
            refusals.append(str(error))
            continue
        assert again.modes == intact.modes
        for one, two in zip(jax.tree.leaves(intact), jax.tree.leaves(again), strict=True):
            assert bits(one) == bits(two)
    assert all(REFUSED in text or "reads format" in text for text in refusals)
    assert len(refusals) > len(whole) / 2  # Some bytes, as of dates, have no effect.


def test_a_file_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "r"
    np.savez(tmp_path / "other.npz", x=np.ones(3))
    np.savez(tmp_path / "old.npz", about=np.array(json.dumps({"format": "?"})))
    np.savez(tmp_path / "list.npz", about=np.array("[]"))
    np.save(tmp_path / "array.npy", np.ones(3))
    path.write_text("nothing")
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        archive.writestr("about.npy", pickle.dumps("no"))
    for other in ("other.npz", "old.npz", "list.npz", "array.npy", "r", "zip"):
        with pytest.raises(ValueError, match=f"{other} is not the result of a sweep"):
            SweepResult.load(tmp_path / other)


def test_a_newer_format_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(_file, "FORMAT", 2)
    monkeypatch.setattr(_file, "momentax_version", lambda: "9.0")
    small_result().save(tmp_path / "r")
    monkeypatch.undo()
    sentence = (
        f"r has format 2, of momentax 9.0, and momentax {momentax.__version__} reads format 1"
    )
    with pytest.raises(ValueError, match=re.escape(sentence)):
        SweepResult.load(tmp_path / "r")


# Files of strangers


def rewrite(path, change_about=None, change=None, compression=zipfile.ZIP_STORED):
    """Write a result's file again with another description or other arrays."""
    with np.load(path) as archive:
        arrays = dict(archive.items())
    about = json.loads(arrays.pop("about").item())
    if change_about:
        about = change_about(about) or about
    if change:
        change(arrays)
    arrays["about"] = np.array(json.dumps(about))
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, np.asarray(array), allow_pickle=True)
            archive.writestr(f"{name}.npy", content.getvalue())


ABOUT = {
    "no format": lambda about: about.pop("format") and None,
    "a word as format": lambda about: about.update(format="1"),
    "a fraction as format": lambda about: about.update(format=1.5),
    "true as format": lambda about: about.update(format=True),
    "a negative format": lambda about: about.update(format=-1),
    "a large word as format": lambda about: about.update(format="99"),
    "no version": lambda about: about.pop("momentax") and None,
    "a number as version": lambda about: about.update(momentax=3),
    "a word as version": lambda about: about.update(momentax="latest"),
    "an escape as version": lambda about: about.update(momentax="1.0\x1b[31m"),
    "a newer format of an escape": lambda about: about.update(format=9, momentax="9\x1b[2J"),
    "an escape as axis": lambda about: about.update(dims={"a\x1b[2J": ["\x1b]0;x\x07"]}),
    "an axis twice": lambda about: about["dims"].update(x=["beta"]),
    "axes of two lengths": lambda about: about.update(dims={"point": ["learning_rate", "beta"]}),
    "a dimension without axes": lambda about: about["dims"].update(x=[]),
    "a list of dimensions": lambda about: about.update(dims=["learning_rate"]),
    "an array twice": lambda about: about.update(tree={"list": ["values/loss"] * 2}),
    "an unknown array": lambda about: about.update(tree="values/x"),
    "an unknown container": lambda about: about.update(tree={"set": ["values/loss"]}),
    "an unknown dtype": lambda about: about.update(dtypes={"values/loss": "float1"}),
    "a mode of another word": lambda about: about.update(modes={"loss": "best"}),
    "modes of a list": lambda about: about.update(modes=["loss"]),
    "static values of another length": lambda about: about.update(static={"beta": [1, 2, 3]}),
    "static values that are lists": lambda about: about.update(static={"beta": [[1], [2]]}),
    "a list": lambda about: [about],
    **{
        f"{name} {wrong}": lambda about, name=name, wrong=wrong: about.update({name: wrong})
        for name in ("tree", "static", "modes")
        for wrong in ([1], 3, True, [["a", "b"]])
    },
    **{
        f"the tree {wrong}": lambda about, wrong=wrong: about.update(tree=wrong)
        for wrong in (
            {},
            {"dict": 3},
            {"list": "ab"},
            {"dict": [1]},
            {"dict": ["ab"]},
            {"list": [], "tuple": []},
            {"list": [3]},
        )
    },
    "a static axis of a number": lambda about: about.update(static={"beta": 3}),
    "a mode that is a list": lambda about: about.update(modes={"loss": []}),
}
ARRAYS = {
    "flags as numbers": lambda a: a.update(diverged=a["diverged"].astype(np.int8)),
    "flags as words": lambda a: a.update(diverged=a["diverged"].astype(str)),
    "flags with a further axis": lambda a: a.update(diverged=a["diverged"][..., None]),
    "flags of another shape": lambda a: a.update(diverged=a["diverged"].T),
    "one flag": lambda a: a.update(diverged=np.bool_(False)),
    "an axis of pairs": lambda a: a.update({"axes/beta": np.ones((2, 2))}),
    "an axis of one number": lambda a: a.update({"axes/beta": np.float32(1)}),
    "an axis of words": lambda a: a.update({"axes/beta": np.array(["a", "b"])}),
    "an axis of complex numbers": lambda a: a.update({"axes/beta": np.ones(2, complex)}),
    "a shorter axis": lambda a: a.update({"axes/beta": np.ones(1)}),
    "values of another shape": lambda a: a.update({"values/loss": np.ones((2, 3))}),
    "pickled values": lambda a: a.update({"values/loss": np.full((3, 2), None)}),
    "no flags": lambda a: a.pop("diverged") is None,
}


@pytest.mark.parametrize("case", [*ABOUT, *ARRAYS])
def test_a_file_that_save_does_not_write_is_refused_in_one_printable_sentence(case, tmp_path):
    path = tmp_path / "r.npz"
    small_result().save(path)
    rewrite(path)
    SweepResult.load(path)  # Written again without a change it can be read.
    rewrite(path, ABOUT.get(case), ARRAYS.get(case))
    with pytest.raises(ValueError, match=rf"r\.npz {REFUSED}") as caught:
        SweepResult.load(path)
    assert str(caught.value).isprintable()
    raw = r"AttributeError|object is not|object of type|has no attribute|unhashable|to unpack"
    assert not re.search(raw, str(caught.value))


def test_a_compressed_file_is_refused_before_it_takes_memory(tmp_path):
    path = tmp_path / "r.npz"
    small_result().save(path)
    rewrite(path, change=lambda a: a.update({"values/loss": np.zeros((3, 2, 10**6))}),
            compression=zipfile.ZIP_DEFLATED)  # fmt: skip
    assert path.stat().st_size < 1e6
    with pytest.raises(ValueError, match="it is compressed"):
        SweepResult.load(path)


def test_a_header_that_claims_more_than_there_is_is_refused(tmp_path):
    path = tmp_path / "r.npz"
    small_result().save(path)
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (3, 2, 10**12)}
    )
    contents["values/loss.npy"] = header.getvalue()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    with pytest.raises(
        ValueError, match=r"loss has another size than its shape \(3, 2, 1000000000"
    ):
        SweepResult.load(path)


ESCAPES = "\x1b[2J\x07\x9b31m\u202e"


def test_escapes_in_names_are_shown_and_not_sent_to_the_terminal(tmp_path):
    points = grid(**{f"axis{ESCAPES}": [f"word{ESCAPES}", "b"], "beta": [0.0, 0.9]})
    values = {
        "test_loss": {ESCAPES: np.ones((2, 2))},
        "loss": np.ones((2, 2)),
        ESCAPES: np.ones((2, 2, 2)),
    }
    make_result(points, values).save(tmp_path / "r")
    result = SweepResult.load(tmp_path / "r")
    seeds = make_result(repeat(points, 2), {f"m{ESCAPES}": np.ones((2, 2, 2))}).over_seeds()
    texts = [
        repr(result),
        result._repr_html_(),
        repr(points),
        repr(seeds),
        repr(result.best("loss")),
    ]
    texts.append(repr(result.marginal(f"axis{ESCAPES}")))
    asked = [
        lambda: result["los"],
        lambda: result[f"los{ESCAPES}"],
        lambda: result.best(ESCAPES, "min"),
        lambda: result.best(f"test_loss.{ESCAPES}"),
        lambda: result.where(gamma=1),
        lambda: result.where(**{f"axis{ESCAPES}": "c"}),
        lambda: result.marginal(ESCAPES),
        lambda: result.over_seeds(),
        lambda: result.mode_of(ESCAPES),
        lambda: momentax.sweep(lambda **point: 1 / 0, points),
        lambda: momentax.sweep(lambda **point: 1.0, points, static=[ESCAPES]),
        lambda: grid(**{ESCAPES: []}),
        lambda: grid(**{ESCAPES: [np.nan]}),
        lambda: zipped(**{ESCAPES: [1], "b": [1, 2]}),
        lambda: momentax.plotting.heatmap(result, "loss"),
        lambda: momentax.plotting.parallel(result, ESCAPES),
        lambda: momentax.plotting.curves(result, "loss"),
    ]
    for ask in asked:
        with pytest.raises((ValueError, KeyError, TypeError, RuntimeError)) as caught:
            ask()
        texts.append(str(caught.value))
    for text in texts:
        assert text.replace("\n", "").isprintable(), repr(text)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes with names")
def test_a_result_is_saved_into_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    read = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    small_result().save(tmp_path / "pipe")
    reader.join(60)
    small_result().save(tmp_path / "file")
    assert read == [(tmp_path / "file").read_bytes()]
    assert not (tmp_path / "pipe").is_file()


@pytest.mark.parametrize("path", [None, 3, 1.0, True, b"r", [], ["r"], {}, np.ones(2), object()])
def test_what_is_no_path_is_refused(path):
    calls = [small_result().save, SweepResult.load]
    if path is not None:  # None means no store.
        calls.append(lambda path: momentax.sweep(lambda beta: beta, grid(beta=[0.5]), store=path))
    for call in calls:
        with pytest.raises(TypeError, match=r"(path|store) must be a path, such as .*, got "):
            call(path)


@pytest.mark.parametrize("path", ["", "a\0b"])
def test_a_path_without_a_file_is_refused(path):
    for call in (small_result().save, SweepResult.load):
        with pytest.raises(ValueError, match="path must be a path"):
            call(path)
