# SPDX-License-Identifier: Apache-2.0
"""Proves what OmModel reads from a compiled model, which models it refuses, and how it chooses a gear."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wav2vec2_eval.engines.base import TensorSpec
from wav2vec2_eval.engines.npu.acl_runtime import AclError
from wav2vec2_eval.engines.npu.om_model import SELECTOR, OmModel, other_chip_message, tells_of_another_chip
from wav2vec2_eval.errors import SuiteError

from conftest import program_on_ascend

FLOAT, FLOAT16, INT32, BFLOAT16 = 0, 1, 3, 27  # of aclDataType; NumPy has no bfloat16
DATASET = 11


class DescribedAcl:
    """Answers what OmModel asks of pyACL, from a description of one input, the selector and one output."""

    def __init__(self, **changes: Any) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.answers: dict[str, Any] = {
            "get_num_inputs": 2,
            "get_input_name_by_index": ("input", SELECTOR),
            "get_input_data_type": (FLOAT, INT32),
            "get_input_dims": ({"dims": [1, -1]}, {"dims": [1]}),
            "get_input_size_by_index": (80_000, 4),
            "get_num_outputs": 1,
            "get_output_size_by_index": (62 * 8 * 2,),
            "get_output_data_type": (FLOAT16,),
            "get_output_dims": ({"dims": [1, 62, 8]},),
            "get_cur_output_dims": ({"dims": [1, 31, 8]},),
            "get_input_dynamic_gear_count": 2,
            "get_input_dynamic_dims": [{"dims": [1, 10_000]}, {"dims": [1, 20_000]}],
            "get_desc": None,
            "set_input_dynamic_dims": None,
            **changes,
        }

    def own(self, create: str, *arguments: Any, release: str) -> int:
        self.calls.append((create, *arguments, release))
        return len(self.calls)

    def get(self, function: str, *arguments: Any) -> Any:
        self.calls.append((function, *arguments))
        answer = self.answers[function.rpartition(".")[2]]
        return answer[arguments[1]] if isinstance(answer, tuple) else answer

    call = get


def open_model(**changes: Any) -> OmModel:
    return OmModel(DescribedAcl(**changes), Path("model.om"))  # type: ignore[arg-type]


def without_gears(length: int) -> dict[str, Any]:
    """The changes to the description that leave the selector out."""
    return {"get_num_inputs": 1, "get_input_dims": ({"dims": [1, length]},)}


def test_what_a_model_with_gears_says():
    model = open_model()
    assert model.inputs == [TensorSpec("input", np.dtype("float32"), (1, None))]
    assert model.real_inputs == [0]
    assert model.gears == [(1, 10_000), (1, 20_000)]
    assert (model.input_sizes, model.output_sizes) == ([80_000, 4], [62 * 8 * 2])
    assert model.output_dtypes == [np.dtype("float16")]


def test_a_fixed_model_has_no_gears():
    model = open_model(**without_gears(10_000))
    assert model.gears is None
    assert model.inputs == [TensorSpec("input", np.dtype("float32"), (1, 10_000))]
    assert model.set_gear(DATASET, [np.zeros((1, 10_000), np.float32)]) == [(1, 62, 8)]


def test_the_description_is_released_after_the_model():
    """Resources are released in reverse order, so the description must be created first."""
    acl = DescribedAcl()
    OmModel(acl, Path("model.om"))
    assert acl.calls[:3] == [
        ("acl.mdl.create_desc", "acl.mdl.destroy_desc"),
        ("acl.mdl.load_from_file", "model.om", "acl.mdl.unload"),
        ("acl.mdl.get_desc", 1, 2),
    ]


def test_a_gear_is_set_by_the_axes_of_all_inputs():
    acl = DescribedAcl()
    model = OmModel(acl, Path("model.om"))
    assert model.set_gear(DATASET, [np.zeros((1, 10_000), np.float32)]) == [(1, 31, 8)]
    gear = {"name": "", "dimCount": 2, "dims": [1, 10_000]}
    assert ("acl.mdl.set_input_dynamic_dims", model.handle, DATASET, 1, gear) in acl.calls


# What CANN says of an .om for another chip: a log of CANN 8.0, the source of 2026, and the documents.
LOGGED = (
    "EE1001: ... ModelCheckCompatibility failed, supported socVersion=Ascend910B2, "
    "but the model socVersion=Ascend910B ... ret: 0x7BC80"
)


@pytest.mark.parametrize(
    ("code", "report", "soc", "message"),
    [
        (500002, LOGGED, "Ascend910B2", "m.om: compiled for Ascend910B, but this host has Ascend910B2; "),
        (500002, LOGGED, None, "m.om: compiled for Ascend910B, but this host has another chip; "),
        (145000, "E10001: soc version is not support in this device", "Ascend310P3", "but this host has Ascend310P3; "),
        (507008, "", "Ascend310P3", "m.om: probably compiled for another chip, but this host has Ascend310P3; "),
        (500002, "model socVersion=Ascend310P3: no memory", "Ascend310P3", None),
        (500002, "E19999: out of memory", "Ascend310P3", None),
        (507000, "", "Ascend310P3", None),
        (None, "", "Ascend310P3", None),
    ],
)
def test_which_failures_of_loading_tell_of_another_chip(code, report, soc, message):
    error = AclError("acl.mdl.load_from_file failed", code, report)
    assert tells_of_another_chip(error, soc) == (message is not None)
    if message:
        said = other_chip_message(error, Path("models/m.om"), soc)
        assert message in said and said.endswith("(acl.mdl.load_from_file failed)")
        assert f"bash onnx2om.sh {soc or 'Ascend…'} m (" in said


@pytest.mark.parametrize("length", [20_001, 40_000])
def test_an_input_that_would_overrun_its_buffer_is_refused(length):
    with pytest.raises(SuiteError, match=rf"an input of shape \(1, {length}\) is longer than the model's"):
        open_model().set_gear(DATASET, [np.zeros((1, length), np.float32)])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (without_gears(-1), "open input shapes but no gears"),
        ({"get_input_dynamic_gear_count": 0}, "--dynamic_dims"),
        ({"get_input_data_type": (BFLOAT16, INT32)}, "model input input: expected a tensor of .*, found type 27"),
        ({"get_output_data_type": (BFLOAT16,)}, "model output 0: expected a tensor of .*, found type 27"),
        ({"get_num_outputs": 0}, "model.om: cannot be loaded .it has 1 inputs and 0 outputs."),
        ({"get_output_dims": ({"dims": []},)}, "model output 0: expected a tensor of .*, found float16 without axes"),
        ({"get_input_dims": ({"dims": []}, {"dims": [1]})}, "model input input: .*, found float32 without axes"),
        ({"get_input_size_by_index": (80_000, 3)}, f"{SELECTOR} has 3 bytes of type 3, expected 4 of type 3"),
    ],
    ids=[
        "open shapes",
        "other gears",
        "input type",
        "output type",
        "no output",
        "scalar output",
        "scalar input",
        "selector too small",
    ],
)
def test_a_model_that_cannot_be_served_is_refused(changes, message):
    with pytest.raises(SuiteError, match=message):
        open_model(**changes)


@pytest.mark.parametrize(
    "axes", [[1, 63, 8], [1, 2**62, 8], [2**62, 2**62, 2**62], [1, -1, 8], [-1, -1, 8]], ids=lambda axes: f"{axes}"
)
@pytest.mark.parametrize("fixed", [False, True])
def test_an_output_that_would_overrun_its_buffer_is_refused(axes, fixed):
    """Reading it would read memory of others. Some of these shapes no array can have."""
    dims = ({"dims": axes},)
    changes = {**without_gears(10_000), "get_output_dims": dims} if fixed else {"get_cur_output_dims": dims}
    message = rf"the model says that an output has shape \({','.join(map(str, axes))}\), .* buffer of 992 bytes"
    with pytest.raises(SuiteError, match=message):
        open_model(**changes).set_gear(DATASET, [np.zeros((1, 10_000), np.float32)])


@pytest.mark.parametrize(
    ("data_type", "size", "works"), [(3, 4, True), (9, 8, True), (9, 4, False), (3, 8, False), (0, 4, False)]
)
def test_a_selector_that_the_library_would_fill_wrongly_is_refused(ascend_user, data_type, size, works):
    """The library writes 8-byte elements if there is room, whatever type the graph reads."""
    said = program_on_ascend("change_selector.py", data_type, size, cwd=ascend_user)
    refused = f"ascend_mbatch_shape_data has {size} bytes of type {data_type}, expected 4 of type 3"
    assert ("works" if works else refused) in said
