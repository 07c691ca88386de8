# SPDX-License-Identifier: Apache-2.0
"""Models as OpenVINO reads them: from an ONNX file, or from a conversion to two dimensions that is kept beside it.

The conversion is an ONNX file, too, with its weights in a second file, which OpenVINO maps into memory. To make it, the
graph alone is read and changed; the weights are copied from file to file.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, BinaryIO

from ..errors import SuiteError
from ..files.file_list import Source, content_of_file
from ..files.folder import OutputFolder, output_folder
from ..files.names import PRECISION_KEY
from .base import Port, check_model, check_precision, unusable
from .first_layer import use_closed_form
from .model_file import LARGE, conversion_folder, external_files, model_digest, read_metadata, skeleton
from .openvino_graph import to_2d

if TYPE_CHECKING:
    import onnx
    import openvino

CONVERSION = 2  # raise when the output of `_convert` changes
ALIGNMENT = 4096  # of each tensor, in bytes: a page of memory
_BLOCK_BYTES = 1 << 20

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
    graph, files = f"{name}.onnx", (f"{name}.data", f"{name}.onnx")
    folder = conversion_folder(model_path)
    try:
        with conversions(model_path) as out:
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


@contextmanager
def conversions(model_path: Path) -> Iterator[OutputFolder]:
    """The folder for what engines make of a model, locked for writing.

    Raises SuiteError if a script's results are in it, because a new conversion would replace them.
    """
    with output_folder(conversion_folder(model_path), wait=True) as folder:
        folder.check_owner("a model's conversions")
        yield folder


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
    """Write the model in two dimensions to `path`, and its weights beside it. Raises SuiteError if it is unusable."""
    import onnx

    check_precision(model_path, "bf16", read_metadata(model_path).get(PRECISION_KEY))
    external_files(model_path)  # refuses files outside the model's folder
    try:
        proto = onnx.load_model_from_string(skeleton(model_path))
        for tensor in _external_tensors(proto.graph):
            if 4 * math.prod(tensor.dims) <= LARGE:  # the rewrites read small weights
                _load(tensor, model_path.parent)
        to_2d(proto)
        use_closed_form(proto)
    except (OSError, MemoryError, SuiteError):
        raise
    except Exception as error:  # the onnx package refuses more than OpenVINO, with exceptions that have no common base
        raise unusable(model_path, error) from None
    with path.with_suffix(".data").open("wb") as weights:
        for tensor in _external_tensors(proto.graph):
            _move(tensor, model_path.parent, weights)
    onnx.save(proto, path)
    try:
        model = core.read_model(path)
    except Exception as error:  # of OpenVINO's own, with no common base
        raise unusable(model_path, error) from None
    check_model(model_path, *ports(model))  # OpenVINO takes files that are no models at all for models without inputs


def _external_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """The tensors whose data lie in another file, in inner graphs, too."""
    from onnx.external_data_helper import uses_external_data

    yield from filter(uses_external_data, graph.initializer)
    for attribute in (attribute for node in graph.node for attribute in node.attribute):
        yield from filter(uses_external_data, (attribute.t, *attribute.tensors))
        for inner in (attribute.g, *attribute.graphs):
            yield from _external_tensors(inner)


def _load(tensor: onnx.TensorProto, folder: Path) -> None:
    """Read the data of a tensor from a file in `folder`."""
    from onnx.external_data_helper import load_external_data_for_tensor

    load_external_data_for_tensor(tensor, str(folder))
    del tensor.external_data[:]
    tensor.data_location = tensor.DEFAULT


def _move(tensor: onnx.TensorProto, folder: Path, weights: BinaryIO) -> None:
    """Append the data of a tensor, from a file in `folder`, to `weights`, and let the tensor refer to them there."""
    from onnx.external_data_helper import ExternalDataInfo

    place = ExternalDataInfo(tensor)
    weights.write(bytes(-weights.tell() % ALIGNMENT))
    start = weights.tell()
    with (folder / place.location).open("rb") as source:
        source.seek(place.offset or 0)
        left = place.length or os.fstat(source.fileno()).st_size - source.tell()
        while left:
            block = source.read(min(left, _BLOCK_BYTES))
            if not block:
                raise SuiteError(
                    f"{folder / place.location}: ends before the weights of {tensor.name}; export it again"
                )
            weights.write(block)
            left -= len(block)
    del tensor.external_data[:]
    moved = {"location": Path(weights.name).name, "offset": start, "length": weights.tell() - start}
    for key, value in moved.items():
        tensor.external_data.add(key=key, value=str(value))


def ports(model: openvino.Model) -> tuple[list[Port], list[Port]]:
    """What OpenVINO says of the model's inputs and outputs."""
    return [_port(node) for node in model.inputs], [_port(node) for node in model.outputs]


def _port(node: openvino.Output) -> Port:
    element = node.element_type.type_name
    shape = node.partial_shape
    axes = tuple(axis.get_length() if axis.is_static else None for axis in shape) if shape.rank.is_static else None
    name = next(iter(node.names), "")  # `any_name` fails if there is none
    return Port(name, _ELEMENTS.get(element, element), axes)
