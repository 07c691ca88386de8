# SPDX-License-Identifier: Apache-2.0
"""Models as OpenVINO reads them: from an ONNX file, or from a conversion to two dimensions that is kept beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from ..errors import SuiteError, one_line
from ..files.file_list import Source, content_of_file
from ..files.folder import output_folder
from ..files.names import CONVERSION_SUFFIX, PRECISION_KEY
from .base import Port, check_model, check_precision, unusable
from .first_layer import use_closed_form
from .model_file import model_digest, read_metadata
from .openvino_graph import to_2d

if TYPE_CHECKING:
    import openvino

CONVERSION = 2  # raise when the output of `_convert` changes

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
    """The model in two dimensions: from the folder of its conversion, or converted now.

    The conversion's name is a hash of the model with its external data, OpenVINO's version and CONVERSION. A new
    conversion replaces the earlier one, and so does one whose content is not what was written. If it cannot be kept, it
    goes to a temporary folder, and stays mapped into memory after that folder is deleted.
    """
    import openvino

    made_of = f"{model_digest(model_path)} {openvino.__version__} {CONVERSION}"
    name = hashlib.sha256(made_of.encode()).hexdigest()[:16]
    graph, files = f"{name}.xml", (f"{name}.bin", f"{name}.xml")
    folder = model_path.with_name(f"{model_path.stem}{CONVERSION_SUFFIX}")
    try:
        with output_folder(folder, wait=True) as out:
            out.check_free(*files)
            if not _is_whole(folder, files):
                with out.staging() as staged:
                    _convert(core, model_path, staged.path / graph)
                    for file in files:
                        staged.record(file, content_of_file(staged.path / file))
                    out.publish(staged, marker=graph)
            return core.read_model(folder / graph)
    except (OSError, SuiteError):  # if the model is at fault, the same error follows
        with TemporaryDirectory() as temporary:
            _convert(core, model_path, Path(temporary) / graph)
            return core.read_model(Path(temporary) / graph)


def _is_whole(folder: Path, files: Sequence[str]) -> bool:
    """Whether the files are there, with the content that was written into them."""
    try:
        source = Source(folder)
        for file in files:
            source.verify_file(file)
    except (OSError, SuiteError):
        return False
    return source.list is not None


def _convert(core: openvino.Core, model_path: Path, path: Path) -> None:
    import onnx
    import openvino

    read_model(model_path, "bf16")  # refuses an unusable model before anything is written
    try:
        proto = onnx.load(model_path)
        to_2d(proto)
        use_closed_form(proto)
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


def ports(model: openvino.Model) -> tuple[list[Port], list[Port]]:
    """What OpenVINO says of the model's inputs and outputs."""
    return [_port(node) for node in model.inputs], [_port(node) for node in model.outputs]


def _port(node: openvino.Output) -> Port:
    element = node.element_type.type_name
    shape = node.partial_shape
    axes = tuple(axis.get_length() if axis.is_static else None for axis in shape) if shape.rank.is_static else None
    name = next(iter(node.names), "")  # `any_name` fails if there is none
    return Port(name, _ELEMENTS.get(element, element), axes)
