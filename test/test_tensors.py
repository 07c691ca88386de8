# SPDX-License-Identifier: Apache-2.0
"""Proves that tensors of every type are read as they were written, and that files of other content are refused."""

from __future__ import annotations

import io
import os

import numpy as np
import pytest

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.files import tensors


def test_the_types_are_those_of_numpy():
    names = "float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool"
    assert list(tensors.DTYPE) == names.split()
    assert all(tensors.DTYPE[name] == np.dtype(name) for name in tensors.DTYPE)


def test_parse_dtypes_splits_at_commas():
    assert tensors.parse_dtypes("float32,bool") == (np.dtype("float32"), np.dtype("bool"))


@pytest.mark.parametrize("text", ["", "float", "float32,", "float32 int8", "np.float32", "object"])
def test_parse_dtypes_refuses(text):
    with pytest.raises(SuiteError, match="expected dtypes from float16"):
        tensors.parse_dtypes(text)


def written(array, save_type="bin"):
    file = io.BytesIO()
    tensors.write_tensor(file, array, save_type)
    return file.getvalue()


def read(path, content, save_type, like):
    path.write_bytes(content)
    if save_type == "npy":
        return tensors.parse_npy(path, content)
    return tensors.read_bin(path, like.shape, tensors.DTYPE[like.dtype.name])


@pytest.mark.parametrize("save_type", ["bin", "npy"])
@pytest.mark.parametrize("name", tensors.DTYPE)
def test_tensors_are_read_as_they_were_written(tmp_path, save_type, name):
    array = np.arange(12).reshape(3, 4).astype(name)
    found = read(tmp_path / "x", written(array, save_type), save_type, array)
    assert found.dtype == array.dtype
    assert found.tobytes() == array.tobytes()


def test_bin_files_are_c_order_and_little_endian():
    assert written(np.array([[1, 2], [3, 4]], dtype=">u2", order="F")) == bytes([1, 0, 2, 0, 3, 0, 4, 0])


@pytest.mark.parametrize(("size", "found"), [(0, "0 bytes"), (23, "23 bytes"), (28, "28 bytes")])
def test_read_bin_refuses_another_size(tmp_path, size, found):
    path = tmp_path / "x.bin"
    path.write_bytes(bytes(size))
    with pytest.raises(SuiteError, match=rf"{found}, expected 24 = \(2,3\) float32"):
        tensors.read_bin(path, (2, 3), np.dtype("float32"))


@pytest.mark.parametrize(
    ("place", "message"), [(None, "no such file"), (os.mkfifo, "regular file"), (os.mkdir, "regular file")]
)
def test_what_is_no_file_is_refused(tmp_path, place, message):
    if place:
        place(tmp_path / "x.bin")
    with pytest.raises(SuiteError, match=message):
        tensors.read_bin(tmp_path / "x.bin", (1,), np.dtype("int8"))


def test_a_file_that_is_replaced_while_it_is_read_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "x.bin"
    path.write_bytes(bytes(24))
    fromfile = np.fromfile

    def replaced(*arguments, **options):
        path.write_bytes(bytes(20))
        return fromfile(*arguments, **options)

    monkeypatch.setattr(np, "fromfile", replaced)
    with pytest.raises(SuiteError, match="20 bytes, expected 24"):
        tensors.read_bin(path, (2, 3), np.dtype("float32"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (written(np.zeros((2, 3), np.float32), "npy"), None),
        (written(np.zeros((3, 2), np.float32), "npy"), r"expected float32 \(2,3\), found float32 \(3,2\)"),
        (written(np.zeros((2, 3), np.float64), "npy"), r"expected float32 \(2,3\), found float64 \(2,3\)"),
        (written(np.zeros((2, 3), np.float32), "npy")[:-1], "23 bytes, expected 24"),
        (written(np.zeros((2, 3), np.float32), "npy") + b"0", "25 bytes, expected 24"),
        (written(np.zeros((2, 3), np.float32), "npy")[:60], r"expected a whole \.npy tensor"),
        (written(np.zeros((2, 3), np.float32)), r"expected a whole \.npy tensor"),
        (b"", r"expected a whole \.npy tensor"),
    ],
)
def test_shape_and_type_of_an_npy_file_are_checked_without_reading_it(tmp_path, content, message):
    path = tmp_path / "x.npy"
    path.write_bytes(content)
    if message is None:
        assert tensors.check_size(path, (2, 3), tensors.DTYPE["float32"], "again") == path.stat().st_mtime_ns
        return
    with pytest.raises(SuiteError, match=rf"^.*x\.npy: {message}.*; again$") as error:
        tensors.check_size(path, (2, 3), tensors.DTYPE["float32"], "again")
    assert "\n" not in str(error.value)


def test_parse_npy_refuses_cut_files_and_pickles(tmp_path):
    whole = written(np.zeros(100), "npy")
    damaged = [whole[:10] + bytes([byte]) + whole[11:] for byte in range(256) if byte != whole[10]]
    archive, pickled = io.BytesIO(), io.BytesIO()
    np.savez(archive, np.zeros(100))
    np.save(pickled, np.array([{}], dtype=object), allow_pickle=True)
    huge = whole.replace(b"(100,), ", b"(1" + b"0" * 6 + b",)")
    contents = (b"", whole[:20], whole[:-1], b"garbage", b"PK\x03\x04 no archive", archive.getvalue(), huge)
    for content in (*contents, pickled.getvalue(), *damaged):
        with pytest.raises(SuiteError, match=r"x\.npy: expected a whole \.npy"):
            tensors.parse_npy(tmp_path / "x.npy", content)


@pytest.mark.parametrize("save_type", ["bin", "npy"])
@pytest.mark.parametrize("shape", [(0, 3), (1,), (2, 1, 3)])
def test_any_shape_can_be_written(tmp_path, save_type, shape):
    array = np.ones(shape, np.float16)
    assert np.array_equal(read(tmp_path / "x", written(array, save_type), save_type, array), array)


@pytest.mark.parametrize(
    ("shape", "text"), [((1, 160_000), "(1,160000)"), ((None, 3), "(*,3)"), ((7,), "(7)"), ((), "()")]
)
def test_format_shape_writes_a_star_for_an_axis_of_any_length(shape, text):
    assert tensors.format_shape(shape) == text
