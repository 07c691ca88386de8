# SPDX-License-Identifier: Apache-2.0
"""Models as OpenVINO reads them: from an ONNX file, or from a conversion to two dimensions that is cached beside it."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from ..errors import SuiteError, one_line
from ..files.locks import locked
from ..files.names import CONVERSIONS_NAME, PRECISION_KEY
from .base import Port, check_model, check_precision, unusable
from .model_file import model_digest, read_metadata
from .openvino_graph import to_2d

if TYPE_CHECKING:
    import openvino

CONVERSION = 1  # raise when the output of `_convert` changes
_CONVERTED = re.compile(r"[0-9a-f]{16}\.(xml|bin)")  # after the name of the model and a hyphen

# OpenVINO's names of element types. What it makes of other types in NumPy has other numbers, without a word.
_ELEMENTS = {
    **{f"{kind}{bits}": f"{name}{bits}" for kind, name in (("i", "int"), ("u", "uint")) for bits in (8, 16, 32, 64)},
    **{f"f{bits}": f"float{bits}" for bits in (16, 32, 64)},
    "boolean": "bool",
}


def is_installed() -> bool:
    """Whether OpenVINO can be imported here; its wheels need a recent C library."""
    try:
        import openvino  # noqa: F401
    except ImportError:
        return False
    return True


def read_model(path: Path, precision: str) -> openvino.Model:
    """Read an ONNX file. Raises SuiteError if it is no model, or not of this precision."""
    from openvino.frontend import FrontEndManager

    onnx_files = FrontEndManager().load_by_framework("onnx")  # others, too, would look at the file, and log errors
    try:
        model = onnx_files.convert(onnx_files.load(str(path)))
    except Exception as error:  # of OpenVINO's own, with no common base
        raise unusable(path, error) from None
    check_model(path, *ports(model))  # OpenVINO takes some files that are no models at all for models without inputs
    check_precision(path, precision, read_metadata(path).get(PRECISION_KEY))
    return model


def read_in_2d(core: openvino.Core, model_path: Path) -> openvino.Model:
    """The model in two dimensions: from the cache beside the model, or converted now.

    The cache file's name contains a hash of the model with its external data, OpenVINO's version and CONVERSION. A new
    cache file replaces older ones. If the cache cannot be written, the conversion goes to a temporary folder, and stays
    mapped into memory after that folder is deleted.
    """
    import openvino

    folder = model_path.parent / CONVERSIONS_NAME
    made_of = f"{model_digest(model_path)} {openvino.__version__} {CONVERSION}"
    path = folder / f"{model_path.stem}-{hashlib.sha256(made_of.encode()).hexdigest()[:16]}.xml"
    try:
        with locked(folder, wait=True) as token:
            try:
                return core.read_model(path)
            except RuntimeError:  # there is none, or it is not whole
                pass
            work = folder / token
            try:
                _convert(core, model_path, work / path.name)
                for old in _conversions(folder, model_path):
                    old.unlink()
                for suffix in (".bin", ".xml"):
                    (work / path.name).with_suffix(suffix).replace(path.with_suffix(suffix))
            finally:
                shutil.rmtree(work, ignore_errors=True)
            return core.read_model(path)
    except (OSError, SuiteError):  # if the model is at fault, the same error follows
        with TemporaryDirectory() as temporary:
            path = Path(temporary) / path.name
            _convert(core, model_path, path)
            return core.read_model(path)


def _convert(core: openvino.Core, model_path: Path, path: Path) -> None:
    import onnx
    import openvino

    read_model(model_path, "bf16")  # refuses an unusable model before anything is written
    path.parent.mkdir(exist_ok=True)
    try:
        proto = onnx.load(model_path)
        to_2d(proto)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # the onnx package refuses more than OpenVINO, with exceptions that have no common base
        raise unusable(model_path, error) from None
    rewritten, weights = path.with_suffix(".onnx"), path.with_suffix(".data")
    # External data have no limit of 2 GB. OpenVINO maps both files into memory.
    onnx.save(proto, rewritten, save_as_external_data=True, location=weights.name)
    del proto
    model = core.read_model(rewritten)
    try:
        openvino.save_model(model, path, compress_to_fp16=False)
    except RuntimeError as error:  # that the disk is full, for example
        raise OSError(f"{path}: cannot be written: {one_line(error)}") from None
    rewritten.unlink()
    weights.unlink()


def _conversions(folder: Path, model_path: Path) -> list[Path]:
    """The cache files of this model."""
    start = f"{model_path.stem}-"
    return [
        path
        for path in folder.iterdir()
        if path.name.startswith(start) and _CONVERTED.fullmatch(path.name[len(start) :]) and path.is_file()
    ]


def ports(model: openvino.Model) -> tuple[list[Port], list[Port]]:
    """What OpenVINO says of the model's inputs and outputs."""
    return [_port(node) for node in model.inputs], [_port(node) for node in model.outputs]


def _port(node: openvino.Output) -> Port:
    element = node.element_type.type_name
    shape = node.partial_shape
    axes = tuple(axis.get_length() if axis.is_static else None for axis in shape) if shape.rank.is_static else None
    name = next(iter(node.names), "")  # `any_name` fails if there is none
    return Port(name, _ELEMENTS.get(element, element), axes)
