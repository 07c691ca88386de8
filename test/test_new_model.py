# SPDX-License-Identifier: Apache-2.0
"""Proves that a model and the file of its weights appear together, replace the earlier ones, or leave nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from wav2vec2_eval.engines.model_file import external_files
from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.export.new_model import new_model, weights_beside


def write_model(path: Path, number: float, weights: str | None = None) -> None:
    """A model that adds `number` to its input; with `weights`, the number is in a file of this name beside `path`."""
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in ("input", "output")]
    tensor = numpy_helper.from_array(np.full(1, number, np.float32), "number")
    nodes = [helper.make_node("Add", ["input", "number"], ["output"])]
    graph = helper.make_graph(nodes, "add", value[:1], value[1:], [tensor])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)
    onnx.save(model, path, save_as_external_data=weights is not None, location=weights, size_threshold=0)


def number_in(path: Path) -> float:
    return float(numpy_helper.to_array(onnx.load(path).graph.initializer[0])[0])


def write_big(path: Path, number: float) -> None:
    """As write_model does, with the number in a file whose name the suite gives."""
    write_model(path, number)
    write_model(path, number, weights_beside(path))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def publish_big(path: Path, number: float) -> str:
    """Returns the name of the file of weights."""
    with new_model(path) as new:
        assert new.name == path.name and new.parent.parent == path.parent
        write_big(new, number)
    (weights,) = external_files(path)
    assert number_in(path) == number
    return weights


def test_a_model_with_its_weights_replaces_the_earlier_model_with_its_weights(tmp_path):
    path = tmp_path / "new folder/m.onnx"
    first = publish_big(path, 1)
    assert names(path.parent) == {"m.onnx", first}
    second = publish_big(path, 2)
    assert first != second and names(path.parent) == {"m.onnx", second}
    assert publish_big(path, 2) == second and names(path.parent) == {"m.onnx", second}
    with new_model(path) as new:
        write_model(new, 3)
    assert (number_in(path), names(path.parent)) == (3, {"m.onnx"})


def test_weights_of_other_models_and_of_the_user_stay(tmp_path):
    path, other = tmp_path / "m.onnx", tmp_path / "m-masked.onnx"
    theirs = publish_big(other, 1)
    write_model(path, 2, "m-weights.data")
    publish_big(path, 3)
    assert number_in(other) == 1
    assert {theirs, "m-weights.data"} < names(tmp_path)


@pytest.mark.parametrize("earlier", ["a model", "text", "weights are missing"])
def test_whatever_a_model_replaces(tmp_path, earlier):
    path = tmp_path / "m.onnx"
    if earlier == "text":
        path.write_text("text")
    else:
        weights = publish_big(path, 1)
        if earlier == "weights are missing":
            (tmp_path / weights).unlink()
    assert names(tmp_path) - {"m.onnx", weights_or_none(path)} == set()
    weights = publish_big(path, 2)
    assert names(tmp_path) == {"m.onnx", weights}


def weights_or_none(path: Path) -> str | None:
    try:
        return next(iter(external_files(path)))
    except SuiteError:
        return None


class Stop(BaseException):
    """As KeyboardInterrupt, without what pytest makes of it."""


@pytest.mark.parametrize("error", [SuiteError("not proven"), OSError("disk full"), Stop()])
def test_a_failure_leaves_the_earlier_model_and_nothing_else(tmp_path, error):
    path = tmp_path / "m.onnx"
    weights = publish_big(path, 1)
    with pytest.raises(type(error)), new_model(path) as new:
        write_big(new, 2)
        (new.parent / "onnx__MatMul_1").touch()  # as PyTorch writes weights
        raise error
    assert (number_in(path), names(tmp_path)) == (1, {"m.onnx", weights})


def test_a_failure_in_a_new_folder_leaves_no_folder(tmp_path):
    with pytest.raises(Stop), new_model(tmp_path / "new/m.onnx") as new:
        write_big(new, 2)
        raise Stop
    assert names(tmp_path) == set()


def test_a_model_whose_weights_are_missing_is_not_published(tmp_path):
    with (
        pytest.raises(SuiteError, match=r"no such file, but m\.onnx has weights in it"),
        new_model(tmp_path / "m.onnx") as new,
    ):
        write_big(new, 1)
        for name in external_files(new):
            (new.parent / name).unlink()
    assert names(tmp_path) == set()


def test_a_folder_in_the_way_is_seen_before_the_export(tmp_path):
    (tmp_path / "m.onnx").mkdir()
    with (
        pytest.raises(SuiteError, match=r"m\.onnx: expected the name of a file to write, found a folder"),
        new_model(tmp_path / "m.onnx"),
    ):
        pytest.fail("the export began")


def test_a_link_in_the_way_is_not_replaced(tmp_path):
    (tmp_path / "m.onnx").symlink_to("mine.onnx")
    with pytest.raises(SuiteError, match="found a link"), new_model(tmp_path / "m.onnx"):
        pytest.fail("the export began")
    assert (tmp_path / "m.onnx").is_symlink()


def test_a_rename_that_fails_leaves_the_earlier_model(tmp_path, monkeypatch):
    path = tmp_path / "m.onnx"
    weights = publish_big(path, 1)
    replace = Path.replace

    def failing(self, target):
        if Path(target) == path:
            raise OSError("no")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(OSError, match="no"), new_model(path) as new:
        write_big(new, 2)
    assert (number_in(path), names(tmp_path)) == (1, {"m.onnx", weights})
