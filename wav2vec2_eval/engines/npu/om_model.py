# SPDX-License-Identifier: Apache-2.0
"""A loaded .om: its inputs, outputs and gears as the file describes them, and the choice of a gear.

A model with gears was compiled for a list of input shapes (ATC's --dynamic_dims). Before each execution the gear is set
on the dataset of input buffers; the shape must be exactly one of the gears.

The list of gears: https://www.hiascend.com/document/detail/en/canncommercial/850/API/appdevgapi/aclpythondevg_01_0217.html
Choosing a gear: https://www.hiascend.com/document/detail/en/canncommercial/800/apiref/appdevgapi/aclpythondevg_01_0168.html
The outputs' shapes in it: https://www.hiascend.com/document/detail/en/canncommercial/800/apiref/appdevgapi/aclcppdevg_03_1466.html
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from ...errors import SuiteError
from ...files.tensors import format_shape
from ..base import Arrays, Port, check_model
from .acl_codes import ACL_DTYPE, WRONG_SOC
from .acl_runtime import Acl, AclError

# The input that ATC adds to a model with gears. The library fills it when a gear is set.
SELECTOR = "ascend_mbatch_shape_data"
SELECTOR_ELEMENT_BYTES = {3: 4, 9: 8}  # by aclDataType: int32 as documented; the library's code knows int64, too

Shape = tuple[int, ...]  # of one tensor


def tells_of_another_chip(error: AclError, host_soc: str | None) -> bool:
    """Whether a model was not loaded because it was compiled for another chip than `host_soc`, which may be unknown.

    The code alone does not say so: CANN folds it into its general failure. Its text names the SoC version.
    """
    if host_soc is not None and _chip_of_model(error) == host_soc:
        return False
    return error.code == WRONG_SOC or re.search(r"soc[ _]?version", error.report, re.IGNORECASE) is not None


def other_chip_message(error: AclError, path: Path, host_soc: str | None) -> str:
    """The error for an .om of another chip, with the command that compiles it for this host."""
    named = _chip_of_model(error)
    compiled_for = f"compiled for {named}" if named else "probably compiled for another chip"
    return (
        f"{path}: {compiled_for}, but this host has {host_soc or 'another chip'}; compile it for this host, with the "
        f"same atc options as before: bash onnx2om.sh {host_soc or 'Ascend…'} {path.stem} ({error})"
    )


def _chip_of_model(error: AclError) -> str | None:
    found = re.search(r"model soc[ _]?version\W*(Ascend\w+)", error.report, re.IGNORECASE)
    return found[1] if found else None


class OmModel:
    """A model that `acl` has loaded and owns. Raises SuiteError if its inputs or gears cannot be served.

    `input_sizes` and `output_sizes` are bytes at the largest gear; the inputs include the selector.
    """

    def __init__(self, acl: Acl, path: Path) -> None:
        self._acl = acl
        # The description is created before the model is loaded, because it is destroyed after the model is unloaded.
        self._desc = acl.own("acl.mdl.create_desc", release="acl.mdl.destroy_desc")
        try:
            self.handle = acl.own("acl.mdl.load_from_file", str(path), release="acl.mdl.unload")
        except AclError as error:
            soc = acl.get("acl.get_soc_name")
            if tells_of_another_chip(error, soc):
                raise SuiteError(other_chip_message(error, path, soc)) from None
            raise
        acl.call("acl.mdl.get_desc", self._desc, self.handle)

        count = self._get("acl.mdl.get_num_inputs")
        names = [self._get("acl.mdl.get_input_name_by_index", index) for index in range(count)]
        self._selector = names.index(SELECTOR) if SELECTOR in names else None
        self.real_inputs = [index for index in range(count) if index != self._selector]
        self.input_sizes = [self._get("acl.mdl.get_input_size_by_index", index) for index in range(count)]
        outputs = range(self._get("acl.mdl.get_num_outputs"))
        self.output_sizes = [self._get("acl.mdl.get_output_size_by_index", index) for index in outputs]
        # With gears, these are the shapes of the largest gear.
        self._output_shapes = [self._dims("acl.mdl.get_output_dims", index) for index in outputs]
        self.inputs, self.output_dtypes = check_model(
            path,
            [self._port("input", names[index], index) for index in self.real_inputs],
            [self._port("output", str(index), index) for index in outputs],
        )
        self.gears = self._read_gears()

    def _get(self, function: str, *arguments: int) -> Any:
        return self._acl.get(function, self._desc, *arguments)

    def _port(self, kind: str, name: str, index: int) -> Port:
        code = self._get(f"acl.mdl.get_{kind}_data_type", index)
        axes = self._dims(f"acl.mdl.get_{kind}_dims", index)
        return Port(name, ACL_DTYPE.get(code, f"type {code}"), tuple(None if axis < 0 else axis for axis in axes))

    def _dims(self, function: str, index: int) -> Shape:
        return tuple(self._acl.call(function, self._desc, index)["dims"])

    def _read_gears(self) -> list[Shape] | None:
        """Each gear: the axes of all real inputs in a row. None: the model has one fixed shape."""
        if self._selector is None:
            if any(None in spec.shape for spec in self.inputs):
                raise SuiteError(
                    "the model has open input shapes but no gears (atc names such files *_linux_<arch>.om); "
                    "compile it with onnx2om.sh"
                )
            return None
        self._check_selector(self._selector)
        count = self._acl.call("acl.mdl.get_input_dynamic_gear_count", self._desc, -1)
        if not count:
            raise SuiteError("the model was not compiled with --dynamic_dims; compile it with onnx2om.sh")
        gears = self._acl.call("acl.mdl.get_input_dynamic_dims", self._desc, -1, count)
        return [tuple(gear["dims"]) for gear in gears]

    def _check_selector(self, index: int) -> None:
        """Raise SuiteError if the library would write other elements into the selector than the graph reads.

        The library derives the element size from the selector's size in bytes, and ignores its type.
        """
        count = sum(spec.shape.count(None) for spec in self.inputs)
        size = self.input_sizes[index]
        code = self._get("acl.mdl.get_input_data_type", index)
        written = 8 if size >= 8 * count else 4
        if SELECTOR_ELEMENT_BYTES.get(code) != written or size < written * count:
            raise SuiteError(
                f"the input {SELECTOR} has {size} bytes of type {code}, expected {4 * count} of type 3 (int32), "
                f"so no gear can be chosen; compile the model again, with onnx2om.sh"
            )

    def set_gear(self, dataset: int, arrays: Arrays) -> list[Shape]:
        """Choose the gear of the arrays' shapes on a dataset of inputs; returns the shapes of the outputs in it."""
        for index, array in zip(self.real_inputs, arrays):
            # Already reported by check_shapes; checked again because an overrun would corrupt memory.
            if array.nbytes > self.input_sizes[index]:
                raise SuiteError(f"an input of shape {array.shape} is longer than the model's; see --model_path")
        if self._selector is None:
            shapes = self._output_shapes
        else:
            dims = [axis for array in arrays for axis in array.shape]
            gear = {"name": "", "dimCount": len(dims), "dims": dims}
            self._acl.call("acl.mdl.set_input_dynamic_dims", self.handle, dataset, self._selector, gear)
            # Read now: a later gear of this model, set through any dataset, would replace the answer.
            shapes = [self._dims("acl.mdl.get_cur_output_dims", index) for index in range(len(self._output_shapes))]
        for shape, dtype, size in zip(shapes, self.output_dtypes, self.output_sizes):
            if any(axis < 0 for axis in shape) or math.prod(shape) * dtype.itemsize > size:
                raise SuiteError(
                    f"the model says that an output has shape {format_shape(shape)}, which its buffer of {size} bytes "
                    f"does not hold; compile it again, with onnx2om.sh"
                )
        return shapes
