# SPDX-License-Identifier: Apache-2.0
"""Models as OpenVINO reads them: from an ONNX file, or from a conversion to two dimensions that is cached beside it."""

from __future__ import annotations

import hashlib
import shutil
from glob import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from ..errors import SuiteError, one_line
from ..files.atomic import file_digest
from ..files.locks import locked
from ..files.names import CONVERSIONS_NAME, PRECISION_KEY
from ..files.tensors import DTYPE
from .base import TensorSpec, check_precision, unusable
from .openvino_graph import to_2d

if TYPE_CHECKING:
    import openvino

CONVERSION = 1  # raise when the output of `_convert` changes


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
    if not model.inputs:  # of an empty file, and of some that are no models at all
        raise unusable(path, ValueError("it has no inputs"))
    stored = ["framework", PRECISION_KEY]  # where OpenVINO puts an ONNX model's metadata
    check_precision(path, precision, model.get_rt_info(stored).value if model.has_rt_info(stored) else None)
    return model


def read_in_2d(core: openvino.Core, model_path: Path) -> openvino.Model:
    """The model in two dimensions: from the cache beside the model, or converted now.

    The cache file's name contains a hash of the model, OpenVINO's version and CONVERSION. A new cache file replaces
    older ones. If the cache cannot be written, the conversion goes to a temporary folder, and stays mapped into memory
    after that folder is deleted.
    """
    import openvino

    folder = model_path.parent / CONVERSIONS_NAME
    made_of = f"{file_digest(model_path)} {openvino.__version__} {CONVERSION}"
    path = folder / f"{model_path.stem}-{hashlib.sha256(made_of.encode()).hexdigest()[:16]}.xml"
    try:
        with locked(folder, wait=True):
            try:
                return core.read_model(path)
            except RuntimeError:  # there is none, or it is not whole
                pass
            work = folder / "new"
            shutil.rmtree(work, ignore_errors=True)  # of a run that was killed
            try:
                _convert(core, model_path, work / path.name)
                for old in folder.glob(f"{escape(model_path.stem)}-{'?' * 16}.*"):
                    old.unlink()
                for suffix in (".bin", ".xml"):
                    (work / path.name).with_suffix(suffix).replace(path.with_suffix(suffix))
            finally:
                shutil.rmtree(work, ignore_errors=True)
            return core.read_model(path)
    except OSError:
        with TemporaryDirectory() as temporary:
            path = Path(temporary) / path.name
            _convert(core, model_path, path)
            return core.read_model(path)


def _convert(core: openvino.Core, model_path: Path, path: Path) -> None:
    import onnx
    import openvino

    read_model(model_path, "bf16")  # refuses an unusable model before anything is written
    path.parent.mkdir(exist_ok=True)
    proto = onnx.load(model_path)
    to_2d(proto)
    rewritten = path.with_suffix(".onnx")
    onnx.save(proto, rewritten)  # OpenVINO maps it into memory
    del proto
    model = core.read_model(rewritten)
    try:
        openvino.save_model(model, path, compress_to_fp16=False)
    except RuntimeError as error:  # that the disk is full, for example
        raise OSError(f"{path}: cannot be written: {one_line(error)}") from None
    rewritten.unlink()


def tensor_spec(node: openvino.Output) -> TensorSpec:
    """Name, type and shape of a model input. Raises SuiteError for a type that the suite does not know."""
    element = node.element_type.to_dtype().name
    if element not in DTYPE:
        raise SuiteError(f"model input {node.any_name}: expected a tensor of {' '.join(DTYPE)}, found {element}")
    shape = tuple(axis.get_length() if axis.is_static else None for axis in node.partial_shape)
    return TensorSpec(node.any_name, DTYPE[element], shape)
