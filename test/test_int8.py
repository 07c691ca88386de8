# SPDX-License-Identifier: Apache-2.0
"""Proves, on the demo's speech, that int8 models are small and accurate, and that others are not kept."""

from __future__ import annotations

import shutil
import sys

import numpy as np
import onnx
import pytest

from wav2vec2_eval.engines.first_layer import statistics, use_closed_form
from wav2vec2_eval.engines.model_file import read_metadata
from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.export import int8
from wav2vec2_eval.export.graph import write_graph
from wav2vec2_eval.files.names import MODEL_RECORD_KEY, PRECISION_KEY
from wav2vec2_eval.sources.model_folder import symbols
from wav2vec2_eval.sources.pytorch_model import load_model
from wav2vec2_eval.speech.latency import parse_figures

from conftest import DEMO, DEMO_DATA, DEMO_MODEL, make_model, noise, run_ok, run_script

pytest.importorskip("nncf")

INT8 = "wav2vec2-base-960h-int8.onnx"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A folder with pre/, and models/ with the float and the int8 model."""
    cwd = tmp_path_factory.mktemp("int8")
    run_ok("preprocess.py", "--pre_data_save_path=pre", "--gears=none", *DEMO_DATA, DEMO_MODEL, cwd=cwd)
    done = run_script(
        "export_onnx.py",
        "--model_save_dir=models",
        DEMO_MODEL,
        "--quantize=int8",
        "--calibration=pre/bin_file.info",
        cwd=cwd,
    )
    assert done.returncode == 0, done.stderr
    assert "in int8" in done.stdout and "on 26 held-out utterances" in done.stdout
    return cwd


def infer(cwd, folder, *options):
    return run_script(
        "pyacl_infer.py",
        "--input_info_file_path=pre/bin_file.info",
        f"--infer_res_save_path={folder}",
        *options,
        cwd=cwd,
    )


def wer(cwd, folder):
    options = (f"--bin_file_path={folder}", f"--res_save_path={folder}/t.txt", "--which_dataset=clean", DEMO_MODEL)
    run_ok("postprocess.py", *options, cwd=cwd)
    return parse_figures((cwd / folder / "wer.txt").read_text())["WER"]


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_recognises_as_well_as_float(exported, engine):
    if engine == "openvino":
        pytest.importorskip("openvino")
    float_model, int8_model = "--model_path=models/wav2vec2-base-960h.onnx", f"--model_path=models/{INT8}"
    done = infer(exported, "float", float_model, f"--engine={engine}")
    assert done.returncode == 0, done.stderr
    done = infer(exported, "int8", int8_model, f"--engine={engine}", "--precision=int8")
    assert done.returncode == 0, done.stderr
    assert wer(exported, "int8") <= wer(exported, "float") + 0.005


def test_weights_are_int8_but_for_the_convolutions(exported):
    assert (exported / "models" / INT8).stat().st_size < (
        exported / "models/wav2vec2-base-960h.onnx"
    ).stat().st_size / 2
    model = onnx.load(exported / "models" / INT8)
    producers = {output: node for node in model.graph.node for output in node.output}
    floats = {tensor.name for tensor in model.graph.initializer}
    of_statistics = statistics(model)
    assert of_statistics, "the first GroupNorm is in closed form"
    convolutions = [node for node in model.graph.node if node.op_type == "Conv" and node.name not in of_statistics]
    kinds = ["float" if node.input[1] in floats else producers[node.input[1]].op_type for node in convolutions]
    assert kinds == ["float"] * 8
    for node in model.graph.node:
        if node.name in {*of_statistics, *int8.attention_products(model)}:
            assert "DequantizeLinear" not in {producers[name].op_type for name in node.input if name in producers}


def test_what_stays_in_float(exported):
    """All convolutions, all products of attention, and the first layer's statistics."""
    model = onnx.load(exported / "models/wav2vec2-base-960h.onnx")
    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
    use_closed_form(model)
    found = int8.float_nodes(model)
    assert len(found) == len(set(found))
    kinds = {node.name: node.op_type for node in model.graph.node}
    others = set(found) - {*convolutions, *statistics(model)}
    layers = sum(kind == "Softmax" for kind in kinds.values())
    assert len(others) == 2 * layers > 0 and {kinds[name] for name in others} == {"MatMul"}
    assert set(found) == {*convolutions, *others, *statistics(model)}


@pytest.mark.parametrize(
    ("kind", "masked"), [("wav2vec2", False), ("wav2vec2", True), ("hubert", True), ("wavlm", False)]
)
def test_attentions_products(tmp_path, kind, masked):
    """Two in each layer. Those of a position bias have weights, and are not among them."""
    model = load_model(str(make_model(tmp_path / "model", kind=kind)), attention="eager")
    write_graph(model, tmp_path / "m.onnx", masked)
    graph = onnx.load(tmp_path / "m.onnx")
    weights = {tensor.name for tensor in graph.graph.initializer}
    nodes = {node.name: node for node in graph.graph.node}
    found = int8.attention_products(graph)
    assert len(found) == len(set(found)) == 2 * model.config.num_hidden_layers
    assert all(weights.isdisjoint(nodes[name].input) for name in found)


def test_openvino_fuses_attention_of_a_masked_model(masked_export, tmp_path):
    """Otherwise int8 loses on long utterances what it gains."""
    openvino = pytest.importorskip("openvino")
    inputs = [[noise(length)[None].astype(np.float32), np.ones((1, length), np.float32)] for length in (9_000, 20_000)]
    int8.quantize(masked_export.path, tmp_path / "m.onnx", inputs)
    compiled = openvino.Core().compile_model(tmp_path / "m.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    kinds = [node.get_rt_info()["layerType"].get() for node in compiled.get_runtime_model().get_ops()]
    layers = sum(node.op_type == "Softmax" for node in onnx.load(masked_export.path).graph.node)
    assert kinds.count("Subgraph") == layers and "Softmax" not in kinds


@pytest.mark.parametrize(
    ("model", "precision", "message"),
    [
        (INT8, "f32", "--precision=f32, but the model's weights are int8; give --precision=int8"),
        (INT8, "bf16", "--precision=bf16"),
        ("wav2vec2-base-960h.onnx", "int8", "--precision=int8, but the model's weights are f32; export it with"),
    ],
)
@pytest.mark.parametrize("engine", ["auto", "onnxruntime"])
def test_the_precision_must_be_the_models(exported, engine, model, precision, message):
    done = infer(exported, "res", f"--model_path=models/{model}", f"--precision={precision}", f"--engine={engine}")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert message in done.stderr
    assert not (exported / "res/results.tsv").exists()


def test_a_model_that_loses_accuracy_is_not_kept(exported, tmp_path, monkeypatch):
    monkeypatch.setattr(int8, "MAX_LOSS", -1.0)
    with pytest.raises(SuiteError, match=r"int8.onnx: not written: WER .* in int8, .* in f32, on 26 held-out"):
        int8.export_int8(
            exported / "models/wav2vec2-base-960h.onnx",
            tmp_path / INT8,
            *int8.read_calibration(exported / "pre/bin_file.info", 1),
            symbols(str(DEMO / "model")),
            num_threads=2,
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--quantize=int8"], "--quantize and --calibration go together"),
        (["--calibration=pre/bin_file.info"], "--quantize and --calibration go together"),
        (["--quantize=int4", "--calibration=x"], "invalid choice: 'int4'"),
        (["--quantize=int8", "--calibration=none/bin_file.info"], "none/bin_file.info: no such file"),
        (["--quantize=int8", "--calibration=pre/bin_file.info", "--attention_mask"], "give --attention_mask to both"),
    ],
)
def test_refused(exported, tmp_path, options, message):
    done = run_script("export_onnx.py", f"--model_save_dir={tmp_path}", DEMO_MODEL, *options, cwd=exported)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())  # the mistake is reported before the export, which can take minutes


def test_a_single_utterance_cannot_be_halved(tmp_path):
    run_ok(
        "preprocess.py", "--pre_data_save_path=pre", "--gears=none", "--limit=1", *DEMO_DATA, DEMO_MODEL, cwd=tmp_path
    )
    with pytest.raises(SuiteError, match="expected at least 2 utterances, found 1"):
        int8.read_calibration(tmp_path / "pre/bin_file.info", 1)


def test_chunks_calibrate_and_whole_utterances_test(tmp_path):
    """A chunk has no reference of its own."""
    options = ["--gears=none", "--limit=6", "--chunk_s=5", *DEMO_DATA, DEMO_MODEL]
    run_ok("preprocess.py", "--pre_data_save_path=pre", *options, cwd=tmp_path)
    keys = [line.split()[0] for line in (tmp_path / "pre/bin_file.info").read_text().splitlines()]
    assert any("-" in key for key in keys[1::2])
    calibrated, held_out = int8.read_calibration(tmp_path / "pre/bin_file.info", 1)
    assert len(calibrated) == len(keys[::2])
    assert len(held_out) == sum("-" not in key for key in keys[1::2])


def test_a_tensor_that_is_cut_is_seen_before_the_export(exported, tmp_path):
    folder = shutil.copytree(exported / "pre", tmp_path / "pre")
    (folder / "3.bin").write_bytes((folder / "3.bin").read_bytes()[:-4])
    with pytest.raises(SuiteError, match=r"3\.bin: .* bytes, expected .*; run preprocess\.py again"):
        int8.read_calibration(folder / "bin_file.info", 1)


@pytest.mark.parametrize(("most", "calibrated"), [(300, 26), (26, 26), (25, 13), (5, 5)])
def test_calibration_and_test_are_drawn_evenly_from_the_whole_set(exported, monkeypatch, most, calibrated):
    """Even utterances calibrate, or an even choice of them if there are too many; all odd utterances test."""
    monkeypatch.setattr(int8, "CALIBRATED_UTTERANCES", most)
    first, second = int8.read_calibration(exported / "pre/bin_file.info", 1)
    texts = [line.split("\t")[3] for line in (exported / "pre/utterances.tsv").read_text().splitlines()]
    step = -(-26 // most)
    assert (len(first), len(second)) == (calibrated, 26)
    assert list(first.texts) == texts[::2][::step]
    assert list(second.texts) == texts[1::2]
    waveforms = [arrays[0] for arrays in second]
    assert [waveform.shape[0] for waveform in waveforms] == [1] * 26
    assert waveforms[0].nbytes == (exported / "pre/1.bin").stat().st_size


def test_where_nncf_is_not_installed(exported, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(SuiteError, match=r"NNCF cannot be imported; pip install -r requirements-openvino\.txt"):
        int8.quantize(exported / "models/wav2vec2-base-960h.onnx", tmp_path / "x.onnx", [])


def test_metadata_are_those_of_the_float_model_and_the_precision(exported):
    of_float = read_metadata(exported / "models/wav2vec2-base-960h.onnx")
    assert MODEL_RECORD_KEY in of_float
    assert read_metadata(exported / "models" / INT8) == {**of_float, PRECISION_KEY: "int8"}


def test_a_model_that_is_too_large_to_be_quantized_is_refused_before_the_export(model_folder, monkeypatch):
    model = load_model(str(model_folder))
    int8.check_size(model, "name")
    monkeypatch.setattr(int8, "MOST_BYTES", sum(weight.nbytes for weight in model.parameters()) - 1)
    with pytest.raises(
        SuiteError, match=r"--quantize: name has .* GB of weights, expected at most .*; export it without"
    ):
        int8.check_size(model, "name")


def test_the_layout_of_the_data_makes_no_difference_to_calibration(tmp_path):
    found = []
    for layout in ("suite", "ais_bench"):
        options = (f"--pre_data_save_path={layout}", f"--layout={layout}", "--limit=3", *DEMO_DATA, DEMO_MODEL)
        run_ok("preprocess.py", *options, cwd=tmp_path)
        parts = int8.read_calibration(tmp_path / layout / "bin_file.info", 1)
        found.append([part[index][0].tobytes() for part in parts for index in range(len(part))])
    assert found[0] == found[1]
    assert len(set(found[0])) == 3
