# SPDX-License-Identifier: Apache-2.0
"""Tensor files: `.bin` files are raw, C order, little-endian; `.npy` files are NumPy's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import SuiteError
from .atomic import write_whole

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


def parse_dtypes(text: str) -> tuple[np.dtype, ...]:
    """Read the value of `--input_dtypes`: names from DTYPE with commas between."""
    names = text.split(",")
    for name in names:
        if name not in DTYPE:
            raise SuiteError(f"expected dtypes from {' '.join(DTYPE)}, with commas between; found {name!r}")
    return tuple(DTYPE[name] for name in names)


def check_size(path: Path, shape: tuple[int, ...], dtype: np.dtype, advice: str) -> None:
    """Raise SuiteError unless the raw file `path` has exactly the bytes of `shape` and `dtype`."""
    expected = math.prod(shape) * dtype.itemsize
    try:
        found = path.stat().st_size
    except FileNotFoundError:
        raise SuiteError(f"{path}: no such file; {advice}") from None
    if found != expected:
        raise SuiteError(f"{path}: {found} bytes, expected {expected} = {format_shape(shape)} {dtype.name}; {advice}")


def read_bin(path: Path, shape: tuple[int, ...], dtype: np.dtype, advice: str = "write it again") -> np.ndarray:
    """Read a raw tensor. Raises SuiteError if the file is missing or its size does not fit."""
    check_size(path, shape, dtype, advice)
    return np.fromfile(path, dtype=dtype).reshape(shape)


def read_npy(path: Path, advice: str = "write it again") -> np.ndarray:
    """Read a `.npy` tensor (never a pickle). Raises SuiteError if it is missing, cut short or something else."""
    try:
        array = np.load(path, allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise ValueError("an archive")
        return array
    except FileNotFoundError:
        raise SuiteError(f"{path}: no such file; {advice}") from None
    except Exception as error:  # what NumPy's parsers make of a damaged header has no common base
        raise SuiteError(f"{path}: expected a whole .npy tensor, found: {error}; {advice}") from None


def write_tensor(path: Path, array: np.ndarray) -> None:
    """Write `array` to `path`, in the format of its suffix, `.bin` or `.npy`."""
    array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    if path.suffix == ".npy":
        write_whole(path, lambda file: np.save(file, array, allow_pickle=False))
    else:
        write_whole(path, lambda file: file.write(array.data))


def format_shape(shape: Sequence[int | None]) -> str:
    """A shape as the manifest writes it, `(1,160000)`, with `*` for an axis of any length."""
    return f"({','.join('*' if axis is None else str(axis) for axis in shape)})"
