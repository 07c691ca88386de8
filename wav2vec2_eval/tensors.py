# SPDX-License-Identifier: Apache-2.0
"""Tensor files and whole-or-nothing writing.

`.bin` files are raw, C order, little-endian; `.npy` files are NumPy's. Every file is written under a temporary name
and then renamed, so that a file with its final name is complete even after kill -9.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .errors import SuiteError

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
TEMPORARY_SUFFIX = ".tmp"


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
        raise SuiteError(f"{path}: {found} bytes, expected {expected} = {_shape_text(shape)} {dtype.name}; {advice}")


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
        write_whole(path, lambda file: file.write(array))


def write_text(path: Path, text: str) -> None:
    """Write a whole UTF-8 text file."""
    write_whole(path, lambda file: file.write(text.encode("utf-8")))


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it to `path`; on failure leave no trace."""
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    try:
        with temporary.open("wb") as file:
            write(file)
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # "No space left on device" does not say where
            error.filename = str(path)
        raise


def _shape_text(shape: tuple[int, ...]) -> str:
    return f"({','.join(map(str, shape))})"
