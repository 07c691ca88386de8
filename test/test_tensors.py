# SPDX-License-Identifier: Apache-2.0
"""Proves that tensors of every type are read as they were written, and that files of other content are refused."""

from __future__ import annotations

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


@pytest.mark.parametrize("suffix", [".bin", ".npy"])
@pytest.mark.parametrize("name", tensors.DTYPE)
def test_tensors_are_read_as_they_were_written(tmp_path, suffix, name):
    array = np.arange(12).reshape(3, 4).astype(name)
    path = tmp_path / f"0.0{suffix}"
    tensors.write_tensor(path, array)
    read = tensors.read_npy(path) if suffix == ".npy" else tensors.read_bin(path, (3, 4), tensors.DTYPE[name])
    assert read.dtype == array.dtype
    assert read.tobytes() == array.tobytes()
    assert [child.name for child in tmp_path.iterdir()] == [path.name]


def test_bin_files_are_c_order_and_little_endian(tmp_path):
    path = tmp_path / "x.bin"
    tensors.write_tensor(path, np.array([[1, 2], [3, 4]], dtype=">u2", order="F"))
    assert path.read_bytes() == bytes([1, 0, 2, 0, 3, 0, 4, 0])


@pytest.mark.parametrize(("size", "found"), [(0, "0 bytes"), (23, "23 bytes"), (28, "28 bytes")])
def test_read_bin_refuses_another_size(tmp_path, size, found):
    path = tmp_path / "x.bin"
    path.write_bytes(bytes(size))
    with pytest.raises(SuiteError, match=rf"{found}, expected 24 = \(2,3\) float32"):
        tensors.read_bin(path, (2, 3), np.dtype("float32"))


def test_missing_files_are_refused(tmp_path):
    with pytest.raises(SuiteError, match="no such file"):
        tensors.read_bin(tmp_path / "x.bin", (1,), np.dtype("int8"))
    with pytest.raises(SuiteError, match="no such file"):
        tensors.read_npy(tmp_path / "x.npy")


def test_read_npy_refuses_cut_files_and_pickles(tmp_path):
    path = tmp_path / "x.npy"
    tensors.write_tensor(path, np.zeros(100))
    whole = path.read_bytes()
    damaged = [whole[:10] + bytes([byte]) + whole[11:] for byte in range(256) if byte != whole[10]]
    for content in (b"", whole[:20], whole[:-1], b"garbage", b"PK\x03\x04 no archive", *damaged):
        path.write_bytes(content)
        with pytest.raises(SuiteError, match=r"expected a whole \.npy"):
            tensors.read_npy(path)
    with path.open("wb") as file:
        np.savez(file, np.zeros(100))
    with pytest.raises(SuiteError, match="found: an archive"):
        tensors.read_npy(path)
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(SuiteError, match=r"expected a whole \.npy"):
        tensors.read_npy(path)


@pytest.mark.parametrize("suffix", [".bin", ".npy"])
@pytest.mark.parametrize("shape", [(0, 3), (1,), (2, 1, 3)])
def test_any_shape_can_be_written(tmp_path, suffix, shape):
    array = np.ones(shape, np.float16)
    path = tmp_path / f"x{suffix}"
    tensors.write_tensor(path, array)
    read = tensors.read_npy(path) if suffix == ".npy" else tensors.read_bin(path, shape, tensors.DTYPE["float16"])
    assert np.array_equal(read, array)


@pytest.mark.parametrize(
    ("shape", "text"), [((1, 160_000), "(1,160000)"), ((None, 3), "(*,3)"), ((7,), "(7)"), ((), "()")]
)
def test_format_shape_writes_a_star_for_an_axis_of_any_length(shape, text):
    assert tensors.format_shape(shape) == text
