# SPDX-License-Identifier: Apache-2.0
"""Tensor files: `.bin` files are raw, C order, little-endian; `.npy` files are NumPy's."""

from __future__ import annotations

import io
import math
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from ..errors import SuiteError, one_line

# The element types of model inputs and outputs, by the names that --input_dtypes takes.
DTYPE = {
    name: np.dtype(name).newbyteorder("<")
    for name in (
        "float16",
        "float32",
        "float64",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "bool",
    )
}

WRITTEN_DTYPE = "float32"  # of the tensors that preprocess.py writes

NPY_HEADER_BYTES = 128  # of the tensors that the suite writes; NumPy fills headers up to a multiple of 64


class Writable(Protocol):
    """What can be written to."""

    def write(self, data: bytes | memoryview, /) -> int: ...


def parse_dtypes(text: str) -> tuple[np.dtype, ...]:
    """Read the value of `--input_dtypes`: names from DTYPE with commas between."""
    names = text.split(",")
    for name in names:
        if name not in DTYPE:
            raise SuiteError(f"expected dtypes from {' '.join(DTYPE)}, with commas between; found {name!r}")
    return tuple(DTYPE[name] for name in names)


def check_size(path: str | Path, shape: tuple[int, ...], dtype: np.dtype, advice: str) -> int:
    """The time in nanoseconds at which the file `path` was changed.

    Raises SuiteError unless the file has exactly the bytes of `shape` and `dtype`, after the header that says so if it
    is a `.npy` file.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 (called for each tensor before the first inference)
    except (FileNotFoundError, NotADirectoryError):
        raise SuiteError(f"{path}: no such file; {advice}") from None
    if not stat.S_ISREG(status.st_mode):
        raise SuiteError(f"{path}: expected a regular file, found something else; {advice}")
    header_size = _check_header(path, shape, dtype, advice) if is_npy(path) else 0
    _check_bytes(path, status.st_size - header_size, shape, dtype, advice)
    return status.st_mtime_ns


def is_npy(path: str | Path) -> bool:
    """Whether a file is NumPy's by its name; all others are raw."""
    return str(path).endswith(".npy")


def _check_header(path: str | Path, shape: tuple[int, ...], dtype: np.dtype, advice: str) -> int:
    """The size in bytes of a `.npy` file's header. Raises SuiteError unless it has this shape and type."""
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    with open(path, "rb") as file:  # noqa: PTH123 (called for each tensor before the first inference)
        try:
            found = read_header[np.lib.format.read_magic(file)](file)
        except Exception as error:  # see parse_npy
            raise SuiteError(_no_npy(path, error, advice)) from None
        size = file.tell()
    _check_spec(path, found[0], found[2], shape, dtype, advice)
    return size


def read_bin(path: Path, shape: tuple[int, ...], dtype: np.dtype, advice: str = "write it again") -> np.ndarray:
    """Read a raw tensor. Raises SuiteError if the file is missing or its size does not fit."""
    check_size(path, shape, dtype, advice)
    array = np.fromfile(path, dtype=dtype)
    _check_bytes(path, array.nbytes, shape, dtype, advice)  # of a file that was replaced just now
    return array.reshape(shape)


def _check_bytes(path: str | Path, found: int, shape: tuple[int, ...], dtype: np.dtype, advice: str) -> None:
    expected = math.prod(shape) * dtype.itemsize
    if found != expected:
        raise SuiteError(f"{path}: {found} bytes, expected {expected} = {format_shape(shape)} {dtype.name}; {advice}")


def parse_npy(path: Path, content: bytes, advice: str = "write it again") -> np.ndarray:
    """The tensor in the content of a `.npy` file (never a pickle). Raises SuiteError for anything else."""
    try:
        array = np.load(io.BytesIO(content), allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise ValueError("an archive")
        return array
    except Exception as error:  # what NumPy's parsers make of a damaged header has no common base
        raise SuiteError(_no_npy(path, error, advice)) from None


def parse_npy_as(path: Path, content: bytes, shape: tuple[int, ...], dtype: np.dtype, advice: str) -> np.ndarray:
    """The tensor in the content of a `.npy` file. Raises SuiteError unless it has this shape and type."""
    array = parse_npy(path, content, advice)
    _check_spec(path, array.shape, array.dtype, shape, dtype, advice)
    return array


def _no_npy(path: str | Path, error: Exception, advice: str) -> str:
    return f"{path}: expected a whole .npy tensor, found: {one_line(error)}; {advice}"


def _check_spec(
    path: str | Path,
    found_shape: tuple[int, ...],
    found_dtype: np.dtype,
    shape: tuple[int, ...],
    dtype: np.dtype,
    advice: str,
) -> None:
    if (found_shape, found_dtype) != (shape, dtype):
        raise SuiteError(
            f"{path}: expected {dtype.name} {format_shape(shape)}, found {found_dtype} {format_shape(found_shape)}; "
            f"{advice}"
        )


def write_tensor(file: Writable, array: np.ndarray, res_save_type: str = "bin") -> None:
    """Write `array` to an open file, as `bin` or `npy`."""
    array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    if res_save_type == "npy":
        np.save(file, array, allow_pickle=False)
    else:
        file.write(array.data)


def format_shape(shape: Sequence[int | None]) -> str:
    """A shape as the manifest writes it, `(1,160000)`, with `*` for an axis of any length."""
    return f"({','.join('*' if axis is None else str(axis) for axis in shape)})"
