# SPDX-License-Identifier: Apache-2.0
"""Proves that a model's digest changes with every file of its weights, and what is read of an .onnx without onnx."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import load_external_data_for_model, uses_external_data

from wav2vec2_eval.engines import model_file
from wav2vec2_eval.engines.model_file import (
    LARGE,
    check_seal,
    external_files,
    model_digest,
    read_metadata,
    seal,
    skeleton,
)
from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.files.atomic import file_digest


def external(name: str, location: str | None, **others: str) -> onnx.TensorProto:
    """A tensor of three numbers, which lie in the file `location`, or in the tensor itself."""
    tensor = numpy_helper.from_array(np.array([1, 2, 3], np.float32), name)
    if location is not None:
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {**others, "location": location}.items():
            tensor.external_data.add(key=key, value=value)
    return tensor


def value(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [3])


def write_model(path: Path, tensors: list[onnx.TensorProto], nodes: list[onnx.NodeProto] | None = None) -> Path:
    """A model with these initializers. The name `location` is everywhere where it is no key of external data."""
    nodes = [helper.make_node("Neg", ["location"], ["out"], name="location"), *(nodes or [])]
    graph = helper.make_graph(nodes, "location", [value("location")], [value("out")], tensors)
    graph.value_info.append(value("location"))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=8)
    helper.set_model_props(model, {"location": "nowhere"})
    path.write_bytes(model.SerializeToString())  # onnx.save would write the external data, and refuse some names
    return path


def test_without_external_data_it_is_the_digest_of_the_file(tmp_path):
    inside = external("location", None)
    inside.external_data.add(key="location", value="old.data")  # left over: its data are inside
    path = write_model(tmp_path / "m.onnx", [inside])
    assert external_files(path) == set()
    assert model_digest(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    other = tmp_path / "m.om"
    other.write_bytes(b"\xff" * 99)
    assert model_digest(other) == hashlib.sha256(b"\xff" * 99).hexdigest()


@pytest.mark.parametrize("location", [None, "w.data"])
def test_a_sealed_model_is_read_as_before_and_its_damage_is_noticed(tmp_path, location):
    path = write_model(tmp_path / "m.onnx", [external("x", location)])
    data = tmp_path / "w.data"
    data.write_bytes(np.array([1, 2, 3], np.float32).tobytes())
    check_seal(path)  # a model of others has no seal
    before = onnx.load(path)
    seal(path)
    check_seal(path)
    after = onnx.load(path)
    metadata = {entry.key: entry.value for entry in after.metadata_props}
    assert metadata.keys() == {"location", "sha256"} and read_metadata(path) == {"location": "nowhere"}
    helper.set_model_props(after, {"location": "nowhere"})
    assert after == before
    content = path.read_bytes()
    for damaged in [path] if location is None else [path, data]:
        whole = damaged.read_bytes()
        for position in range(0, len(whole) - 77 if damaged == path else len(whole), 3):
            damaged.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
            with pytest.raises(SuiteError):
                check_seal(path)
        damaged.write_bytes(whole)
    for end in (0, 10, 76, len(content) - 1):
        path.write_bytes(content[:end])
        check_seal(path)  # it has no seal, and cannot be read as a model


def test_a_model_that_another_tool_changed_has_no_seal(tmp_path):
    path = write_model(tmp_path / "m.onnx", [external("x", None)])
    seal(path)
    size = path.stat().st_size
    model = onnx.load(path)
    model.graph.initializer[0].raw_data = bytes(12)
    onnx.save(model, path)
    assert path.stat().st_size == size - 1
    check_seal(path)


def subgraph(tensor: onnx.TensorProto) -> onnx.GraphProto:
    return helper.make_graph([helper.make_node("Identity", [tensor.name], ["x"])], "inner", [], [value("x")], [tensor])


@pytest.fixture
def scattered(tmp_path):
    """A model whose external data are in every place where ONNX has tensors, in files named after the place."""
    sparse = helper.make_sparse_tensor(external("s", "sparse values"), external("i", "sparse indices"), [9])
    nodes = [
        helper.make_node("Constant", [], ["c"], value=external("c", "constant")),
        helper.make_node("If", ["b"], ["d"], then_branch=subgraph(external("then", "sub/graph"))),
        helper.make_node("Other", [], ["e"], tensors=[external("l", "list")]),
        helper.make_node("Other", [], ["f"], graphs=[subgraph(external("g", "graphs"))]),
        helper.make_node("Constant", [], ["g"], sparse_value=sparse),
    ]
    tensors = [
        external("w", "weights", offset="0", length="12"),
        external("v", "weights", offset="12"),
        external("é", "é \n.data"),
    ]
    path = write_model(tmp_path / "m.onnx", tensors, nodes)
    model = onnx.load(path, load_external_data=False)
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(external("s2", "sparse"), external("i2", "sparse"), [9])
    )
    model.functions.add(name="f", domain="d").node.append(
        helper.make_node("Constant", [], ["c"], value=external("c", "function"))
    )
    model.training_info.add().algorithm.CopyFrom(subgraph(external("t", "training")))
    path.write_bytes(model.SerializeToString())
    (tmp_path / "sub").mkdir()
    for name in FILES:
        (tmp_path / name).write_text(name)
    return path


FILES = ["constant", "sub/graph", "list", "graphs", "sparse values", "sparse indices", "weights", "é \n.data", "sparse"]
FILES += ["function", "training"]


def test_external_data_are_found_wherever_onnx_has_tensors(scattered):
    assert external_files(scattered) == set(FILES)


@pytest.mark.parametrize("name", ["m.onnx", *FILES])
def test_the_digest_changes_with_every_file(scattered, name):
    before = model_digest(scattered)
    assert model_digest(scattered) == before
    path = scattered.parent / name
    path.write_bytes(path.read_bytes().replace(b"a", b"b").replace(b"e", b"b").replace(b"i", b"b") + b"\x1a\x00")
    assert model_digest(scattered) != before


def test_bytes_that_move_from_one_file_to_the_next_change_the_digest(scattered):
    before = model_digest(scattered)
    for name, text in (("function", "functio"), ("graphs", "ngraphs")):
        (scattered.parent / name).write_text(text)
    assert model_digest(scattered) != before


@pytest.mark.parametrize("location", ["/dev/null", "../x", "sub/../../x", "", ".", "none", "a\0b"])
def test_external_data_that_are_not_beside_the_model_are_refused(tmp_path, location):
    (tmp_path / "models").mkdir()
    (tmp_path / "x").touch()
    path = write_model(tmp_path / "models/m.onnx", [external("w", location)])
    with pytest.raises(
        SuiteError, match=r"m\.onnx: expected its weights in files beside|no such file, but m\.onnx has"
    ):
        model_digest(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"version https://git-lfs.github.com/spec/v1\n",
        b"\x3a\x05\x0a\x00",  # a graph that is cut
        b"\x3a",
        b"\x38\xff",  # a number without its end
        b"\x38" + b"\xff" * 20 + b"\x00",  # a number that is too long
        b"\x3b\x00",  # a group
        b"\x3a\x02\x2a\x7f" + bytes(200),  # a tensor that is longer than its graph
    ],
)
def test_what_is_not_a_whole_model_is_refused(tmp_path, content):
    (tmp_path / "m.onnx").write_bytes(content)
    for function in (model_digest, read_metadata):
        if content[:4] == b"\x3a\x02\x2a\x7f" and function is read_metadata:
            continue  # it looks into no graph
        with pytest.raises(SuiteError, match=r"m\.onnx: cannot be loaded \(it is not a whole ONNX file\)"):
            function(tmp_path / "m.onnx")


def test_graphs_nested_without_end(tmp_path):
    """A recursive reader would fail."""
    inner = subgraph(external("t", "deep")).SerializeToString()
    headers, size = [inner], len(inner)
    while len(headers) < 30_000:
        for tag in (b"\x32", b"\x2a", b"\x0a"):  # a graph, in an attribute, in a node
            length = bytes([size & 127 | 128, size >> 7 & 127 | 128, size >> 14])
            headers.append(tag + length)
            size += 4
    length = bytes([size & 127 | 128, size >> 7 & 127 | 128, size >> 14])
    (tmp_path / "m.onnx").write_bytes(b"\x3a" + length + b"".join(reversed(headers)))
    (tmp_path / "deep").touch()
    assert external_files(tmp_path / "m.onnx") == {"deep"}


def test_a_file_is_read_for_its_digest_only_once(tmp_path, monkeypatch):
    """Until it changes, be it to as many bytes."""
    read = []

    def digest(path: Path) -> str:
        read.append(path.name)
        return file_digest(path)

    monkeypatch.setattr(model_file, "file_digest", digest)
    path = write_model(tmp_path / "m.onnx", [external("x", "w.data")])
    weights = tmp_path / "w.data"
    weights.write_bytes(np.array([1, 2, 3], np.float32).tobytes())
    first = model_digest(path)
    assert model_digest(path) == first
    assert read == ["m.onnx", "w.data"]
    changed = tmp_path / "new.data"
    changed.write_bytes(np.array([1, 2, 4], np.float32).tobytes())
    changed.replace(weights)
    assert model_digest(path) != first
    assert read == ["m.onnx", "w.data", "w.data"]


@pytest.mark.parametrize("number", [0, 1, LARGE // 4, LARGE // 4 + 1, 3 * LARGE])
def test_a_skeleton_refers_to_the_large_weights_and_is_equal_otherwise(tmp_path, number):
    large = numpy_helper.from_array(np.arange(number, dtype=np.float32), "large")
    path = write_model(tmp_path / "m.onnx", [external("before", None), large, external("after", None)])
    seal(path)
    message = skeleton(path)
    assert len(message) < LARGE + 2_000
    found = onnx.load_model_from_string(message)
    uses = [uses_external_data(tensor) for tensor in found.graph.initializer]
    assert uses == [False, 4 * number > LARGE, False]
    load_external_data_for_model(found, str(tmp_path))
    for tensor in found.graph.initializer:
        tensor.ClearField("data_location")
        tensor.ClearField("external_data")
    assert found == onnx.load(path)


def test_a_skeleton_keeps_what_is_external_already(scattered):
    assert onnx.load_model_from_string(skeleton(scattered)) == onnx.load(scattered, load_external_data=False)


@pytest.mark.parametrize("content", [b"", b"\xff" * 9, b"\x3a\x7f"])
def test_there_is_no_skeleton_of_what_is_no_model(tmp_path, content):
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(SuiteError, match=r"m\.onnx: cannot be loaded"):
        skeleton(path)
