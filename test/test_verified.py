# SPDX-License-Identifier: Apache-2.0
"""Proves, on the demo's trained model, that each CPU engine is right, that a wrong one is refused, and what is kept."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from shutil import copy, rmtree
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from wav2vec2_eval.engines import choose, openvino_cpu, verified
from wav2vec2_eval.engines.base import TensorSpec
from wav2vec2_eval.engines.choose import open_engine
from wav2vec2_eval.engines.model_file import seal
from wav2vec2_eval.engines.onnxruntime_cpu import OnnxruntimeEngine
from wav2vec2_eval.engines.openvino_model import read_in_2d
from wav2vec2_eval.engines.verified import (
    LIMITS,
    PADDED_SAMPLES,
    error_of_padded,
    relative_error,
    utterances,
    waveform,
)
from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.export import graph, int8
from wav2vec2_eval.files.folder import output_folder
from wav2vec2_eval.files.model_record import ModelRecord, format_record
from wav2vec2_eval.files.names import LIST_NAME, LOCK_NAME, MODEL_RECORD_KEY
from wav2vec2_eval.files.run import Run
from wav2vec2_eval.machine.cpu import cpu_name
from wav2vec2_eval.sources import model_folder
from wav2vec2_eval.sources.choose import open_dataset
from wav2vec2_eval.speech.audio import frame_count
from wav2vec2_eval.speech.ctc import greedy_decode
from wav2vec2_eval.speech.padding import GEARS, masked_input, padded_length
from wav2vec2_eval.speech.wer import total, word_errors

from conftest import DEMO, load_for_export, write_two_input_model

openvino = pytest.importorskip("openvino")
pytest.importorskip("nncf")

HAS_BF16 = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
needs_bf16 = pytest.mark.skipif(not HAS_BF16, reason="the processor has no bfloat16 instructions")

# Whatever computes on a CPU, except for the reference itself.
COMPUTED = [
    pytest.param("openvino", "f32", id="openvino-f32"),
    pytest.param("openvino", "bf16", id="openvino-bf16", marks=needs_bf16),
    pytest.param("openvino", "int8", id="openvino-int8"),
    pytest.param("onnxruntime", "int8", id="onnxruntime-int8"),
]
MOST_LOST = {"f32": 0.0, "bf16": 0.003, "int8": 0.005}  # of WER


class Demo(NamedTuple):
    """The demo's masked model, float and int8, and its corpus."""

    models: Path
    inputs: list[list[np.ndarray]]
    texts: list[str]
    record: ModelRecord


def model_file(folder: Path, precision: str) -> Path:
    return folder / ("int8.onnx" if precision == "int8" else "float.onnx")


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    name = str(DEMO / "model")
    record = ModelRecord(name, model_folder.feature_extractor(name), model_folder.symbols(name))
    dataset = open_dataset("clean", str(DEMO / "LibriSpeech"))
    inputs = []
    for index in range(len(dataset)):
        samples = dataset.waveform(index)
        inputs.append(masked_input(record.extractor(samples, len(samples))[0], padded_length(len(samples), GEARS)))
    metadata = {MODEL_RECORD_KEY: format_record(record)}
    graph.write_graph(load_for_export(DEMO / "model"), folder / "float.onnx", attention_mask=True, metadata=metadata)
    int8.quantize(folder / "float.onnx", folder / "int8.onnx", inputs[::2])  # as export_int8 does
    for path in folder.glob("*.onnx"):
        seal(path)  # as new_model does
    return Demo(folder, inputs, list(dataset.texts), record)


@pytest.fixture
def user(demo, tmp_path):
    """A folder with copies of the models, for which nothing was kept yet."""
    for path in demo.models.glob("*.onnx"):
        copy(path, tmp_path)
    return tmp_path


@pytest.fixture
def references(monkeypatch):
    """The models of the reference sessions that were opened."""
    opened = []

    class Counted(OnnxruntimeEngine):
        def __init__(self, path, *arguments, **options):
            opened.append(path.name)
            super().__init__(path, *arguments, **options)

    monkeypatch.setattr(verified, "OnnxruntimeEngine", Counted)
    return opened


def opened(folder: Path, engine: str, precision: str, **options):
    return open_engine(model_file(folder, precision), num_threads=2, engine=engine, precision=precision, **options)


def forget(folder: Path) -> None:
    for kept in folder.glob("*-openvino"):
        rmtree(kept)


def verdicts(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*-openvino/*.txt"))


# Right engines


def word_error_rate(demo: Demo, engine: str, precision: str) -> float:
    with opened(demo.models, engine, precision) as model:
        results = model.stream(demo.inputs)
        texts = [greedy_decode(result.outputs[0][0], demo.record.symbols) for result in results]
    return total(word_errors(demo.texts, texts)).wer


@pytest.fixture(scope="module")
def exact(demo):
    return word_error_rate(demo, "onnxruntime", "f32")


@pytest.mark.parametrize(("engine", "precision"), COMPUTED)
def test_each_precision_recognises_speech(demo, exact, engine, precision):
    assert exact <= 0.05
    assert abs(word_error_rate(demo, engine, precision) - exact) <= MOST_LOST[precision]


@pytest.mark.parametrize(("engine", "precision"), COMPUTED)
def test_a_right_engine_is_believed_and_its_verdict_is_kept(user, references, engine, precision):
    opened(user, engine, precision).close()
    (kept,) = verdicts(user)
    facts = dict(line.partition(": ")[::2] for line in kept.read_text(encoding="utf-8").splitlines())
    assert facts["engine"].lower().startswith(engine) and facts["reference"].startswith("onnxruntime ")
    assert float(facts["relative error"]) <= LIMITS[precision] / 4
    assert references == [model_file(user, precision).name]

    opened(user, engine, precision).close()
    assert len(references) == 1, "the verdict was kept"


def test_the_reference_itself_is_believed(user, references):
    opened(user, "onnxruntime", "f32").close()
    assert references == [] and verdicts(user) == []


def test_whoever_compares_the_answers_needs_no_proof(user, references):
    opened(user, "openvino", "f32", prove=False).close()
    assert references == [] and verdicts(user) == []


# Wrong engines


def noisy(logits: np.ndarray) -> np.ndarray:
    """As if a layer in the middle were wrong."""
    return (logits + 0.5 * logits.std() * np.random.default_rng(0).standard_normal(logits.shape)).astype(np.float32)


def one_nan(logits: np.ndarray) -> np.ndarray:
    logits = logits.copy()
    logits[0, 0, 0] = np.nan
    return logits


def other_padding(logits: np.ndarray) -> np.ndarray:
    """The frames of the padding in the second utterance are no longer blanks. The engine may have padded it further."""
    logits = logits.copy()
    logits[:, frame_count(PADDED_SAMPLES) :] *= -1
    return logits


WRONG = {
    "noise": noisy,
    "zeros": np.zeros_like,
    "a frame late": lambda logits: np.roll(logits, 1, axis=1),
    "other symbols": lambda logits: logits[..., ::-1],
    "a scale": lambda logits: 1.5 * logits,
    "NaN": one_nan,
    "infinity": lambda logits: np.where(logits == logits.max(), np.inf, logits).astype(np.float32),
    "other padding": other_padding,
}


def compute_wrongly(monkeypatch, engine: str, change) -> None:
    """Change whatever the engine's library computes."""
    if engine == "openvino":
        outputs = openvino_cpu.Request.outputs
        monkeypatch.setattr(openvino_cpu.Request, "outputs", lambda self: [change(each) for each in outputs(self)])
    else:

        class Wrong(OnnxruntimeEngine):
            def _run(self, inputs):
                return [change(each) for each in super()._run(inputs)]

        monkeypatch.setattr(choose, "OnnxruntimeEngine", Wrong)


@pytest.mark.parametrize("change", WRONG)
def test_whatever_is_wrong_is_above_every_limit(demo, change):
    """Except for the frames of the padding, which the next test has."""
    with opened(demo.models, "onnxruntime", "f32") as engine:
        plain, padded = (result.outputs for result in engine.stream(utterances(engine)))
    frames = frame_count(PADDED_SAMPLES)
    for expected, error in ((plain, relative_error), (padded, lambda *both: error_of_padded(*both, frames))):
        assert error(expected, expected) == 0
        if expected is padded or change != "other padding":
            assert not error([WRONG[change](each) for each in expected], expected) <= max(LIMITS.values())


@pytest.mark.parametrize("change", ["noise", "NaN", "other padding"])
@pytest.mark.parametrize(("engine", "precision"), COMPUTED)
def test_a_wrong_engine_is_refused_in_one_line_and_nothing_is_kept(
    user, monkeypatch, references, engine, precision, change
):
    threads = threading.active_count()
    compute_wrongly(monkeypatch, engine, WRONG[change])
    with pytest.raises(SuiteError, match=r" computes wrongly: .* differ from those in float32 by ") as refusal:
        opened(user, engine, precision)
    message = str(refusal.value)
    assert "\n" not in message and cpu_name() in message
    assert message.lower().startswith(engine) and f"expected at most {LIMITS[precision]:.0e}; use " in message
    assert ("--precision=f32" in message) == (precision != "f32") and f"--engine={engine}" not in message
    assert verdicts(user) == [] and threading.active_count() == threads
    assert len(references) == 1


def test_a_refusal_is_found_again_until_the_engine_is_right(user, monkeypatch, references):
    with monkeypatch.context() as patched:
        compute_wrongly(patched, "openvino", noisy)
        for _ in range(2):
            with pytest.raises(SuiteError, match="computes wrongly"):
                opened(user, "openvino", "f32")
    assert len(references) == 2
    opened(user, "openvino", "f32").close()
    assert len(references) == 3 and len(verdicts(user)) == 1


def test_a_wrong_engine_is_closed(user, monkeypatch):
    closed = []

    def close(self):
        closed.append(self)

    compute_wrongly(monkeypatch, "openvino", np.zeros_like)
    monkeypatch.setattr(openvino_cpu.OpenVinoEngine, "close", close)
    with pytest.raises(SuiteError, match="computes wrongly"):
        opened(user, "openvino", "f32")
    assert len(closed) == 1


# Models that other tools changed, and that kept the metadata of the export


def with_float16_inside(source: Path, target: Path) -> None:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=True), target)


def with_dynamic_int8(source: Path, target: Path) -> None:
    code = (
        "import sys; from onnxruntime.quantization import QuantType, quantize_dynamic; "
        "quantize_dynamic(*sys.argv[1:], op_types_to_quantize=['MatMul'], weight_type=QuantType.QInt8)"
    )
    # In another process, because onnxruntime imports a module called float16, as one in test/bench is called.
    subprocess.run([sys.executable, "-I", "-c", code, source, target], check=True, capture_output=True)


@pytest.mark.parametrize("change", [with_float16_inside, with_dynamic_int8])
def test_a_model_that_another_tool_rounded_is_believed(demo, tmp_path, change):
    change(demo.models / "float.onnx", tmp_path / "float.onnx")
    opened(tmp_path, "openvino", "f32").close()
    (kept,) = verdicts(tmp_path)
    error = float(kept.read_text(encoding="utf-8").rpartition(": ")[2])
    assert LIMITS["f32"] < error <= LIMITS["int8"] / 4


def test_the_padding_of_a_model_of_another_exporter_need_not_be_blank():
    expected = np.zeros((1, 4, 3), np.float32)
    expected[0, :, 0] = 1, 2, 3, 1e-7
    actual = expected.copy()
    actual[0, 3, 1] = 2e-7
    assert error_of_padded([actual], [expected], 3, blank_padding=False) == 0
    assert error_of_padded([actual], [expected], 3) == np.inf


# What is kept


def test_a_users_results_are_not_replaced_by_what_an_engine_keeps(user, references):
    """They may be in a folder that is called like the one of the conversions."""
    with output_folder(user / "float-openvino", "pyacl_infer.py") as folder:
        folder.write_run(Run("pyacl_infer.py"))
        folder.write_text("0.0.bin", "logits")
    before = {path.name: path.read_bytes() for path in folder.path.iterdir()}
    for _ in range(2):
        opened(user, "openvino", "f32").close()
    core = openvino.Core()
    read_in_2d(core, user / "float.onnx")
    assert {path.name: path.read_bytes() for path in folder.path.iterdir()} == before
    assert len(references) == 2, "nothing was kept"


def another_model(user: Path, _monkeypatch) -> None:
    path = user / "float.onnx"
    model = onnx.load(path)
    helper.set_model_props(model, {each.key: each.value for each in model.metadata_props} | {"changed": "yes"})
    onnx.save(model, path)


CHANGES = {
    "the model": another_model,
    "the processor": lambda _, patched: patched.setattr(verified, "cpu_name", lambda: "cpu (another)"),
    "its instructions": lambda _, patched: patched.setattr(verified, "cpu_features", lambda: {"amx_bf16"}),
    "onnxruntime": lambda _, patched: patched.setattr(verified, "version", lambda _: "99"),
    "OpenVINO": lambda _, patched: patched.setattr(openvino, "__version__", "99-1"),
    "the conversion": lambda _, patched: patched.setattr(verified, "CONVERSION", 99),
    "the setup": lambda _, patched: patched.setattr(verified, "SETUP", 99),
    "the limit": lambda _, patched: patched.setitem(LIMITS, "f32", 2e-4),
    "the kernels": lambda _, patched: patched.setenv("ONEDNN_MAX_CPU_ISA", "AVX2"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_may_change_the_answer_is_checked_again(user, monkeypatch, references, change):
    opened(user, "openvino", "f32").close()
    CHANGES[change](user, monkeypatch)
    for _ in range(2):
        opened(user, "openvino", "f32").close()
    assert len(references) == 2
    assert len(verdicts(user)) == 2


def test_what_does_not_change_the_kernels_is_not_checked_again(user, references):
    opened(user, "openvino", "f32").close()
    opened(user, "openvino", "f32", in_flight=2).close()
    opened(user, "openvino", "f32", batch_size=2).close()
    assert len(references) == 1


def test_a_batch_is_checked(user, references):
    opened(user, "openvino", "int8", batch_size=2).close()
    assert len(references) == 1 and len(verdicts(user)) == 1


def cut(kept: Path) -> None:
    kept.write_bytes(kept.read_bytes()[:100])


def empty(kept: Path) -> None:
    kept.write_bytes(b"")


def remove(kept: Path) -> None:
    kept.unlink()


def damage_the_list(kept: Path) -> None:
    (kept.parent / LIST_NAME).write_text("nonsense", encoding="utf-8")


def remove_the_list(kept: Path) -> None:
    (kept.parent / LIST_NAME).unlink()


def replace_by_a_link(kept: Path) -> None:
    target = kept.parent.parent / "mine.txt"
    target.write_text("mine", encoding="utf-8")
    kept.unlink()
    kept.symlink_to(target)


@pytest.mark.parametrize(
    ("damage", "mended"),
    [
        (cut, True),
        (empty, True),
        (remove, True),
        (damage_the_list, False),  # which makes the file a user's
        (remove_the_list, False),
        (replace_by_a_link, False),
    ],
)
def test_a_verdict_that_is_not_whole_is_found_again(user, references, damage, mended):
    opened(user, "openvino", "f32").close()
    (kept,) = verdicts(user)
    content = kept.read_bytes()
    damage(kept)
    damaged = kept.read_bytes() if kept.exists() else b""
    for _ in range(2):
        opened(user, "openvino", "f32").close()
    assert len(references) == (2 if mended else 3)
    assert kept.read_bytes() == (content if mended else damaged)
    if damage is replace_by_a_link:
        assert (user / "mine.txt").read_text(encoding="utf-8") == "mine"


def test_the_verdict_on_another_model_is_none(user, references):
    """A copied folder says nothing about this model."""
    opened(user, "openvino", "int8").close()
    (user / "int8-openvino").rename(user / "float-openvino")
    opened(user, "openvino", "f32").close()
    assert references == ["int8.onnx", "float.onnx"]


def test_a_folder_that_cannot_be_written(user, references):
    in_the_way = user / "float-openvino"
    in_the_way.write_text("mine", encoding="utf-8")
    for _ in range(2):
        opened(user, "openvino", "f32").close()
    assert len(references) == 2
    assert in_the_way.read_text(encoding="utf-8") == "mine"


def test_a_full_disk_costs_the_verdict_alone(user, monkeypatch, references):
    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("wav2vec2_eval.files.folder.new_file", full)
    opened(user, "openvino", "f32").close()
    assert len(references) == 1 and verdicts(user) == []


def test_the_folder_holds_the_verdict_and_nothing_else(user):
    opened(user, "onnxruntime", "int8").close()
    (kept,) = verdicts(user)
    assert {path.name for path in kept.parent.iterdir()} == {kept.name, LIST_NAME, LOCK_NAME}


# Models of other exporters


def test_a_model_that_onnxruntime_cannot_run_is_said_to_be_not_compared(tmp_path, monkeypatch, capsys):
    def refuses(*_arguments, **_options):
        raise SuiteError("no such operator")

    monkeypatch.setattr(verified, "OnnxruntimeEngine", refuses)
    path = write_two_input_model(tmp_path / "m.onnx")
    open_engine(path, num_threads=1, engine="openvino").close()
    line = capsys.readouterr().out
    assert line.startswith(f"{path}: OpenVINO ") and line.endswith(" is not compared with float32: no such operator\n")
    assert verdicts(tmp_path) == []


def test_an_exported_model_needs_its_reference(user, monkeypatch):
    def refuses(*_arguments, **_options):
        raise SuiteError("onnxruntime is not installed")

    monkeypatch.setattr(verified, "OnnxruntimeEngine", refuses)
    with pytest.raises(SuiteError, match="onnxruntime is not installed"):
        opened(user, "openvino", "f32")


@pytest.mark.parametrize("element", [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.INT64])
def test_a_model_of_another_exporter_is_compared(tmp_path, references, monkeypatch, element):
    path = write_two_input_model(tmp_path / "m.onnx", element)
    open_engine(path, num_threads=1, engine="openvino").close()
    assert references == ["m.onnx"] and len(verdicts(tmp_path)) == 1
    forget(tmp_path)
    compute_wrongly(monkeypatch, "openvino", lambda output: output + np.ones_like(output))
    with pytest.raises(SuiteError, match="computes wrongly"):
        open_engine(path, num_threads=1, engine="openvino")


# Errors


@pytest.mark.parametrize(
    ("actual", "expected", "error"),
    [
        ([1, 2, 3], [1, 2, 3], 0),
        ([1, 2, 4], [1, 2, 3], 1 / np.sqrt(2)),
        ([101, 102, 104], [101, 102, 103], 1 / np.sqrt(2)),  # what is common to all counts for nothing
        ([0, 0, 0], [0, 0, 0], 0),
        ([5, 5, 6], [5, 5, 5], 1 / np.sqrt(75)),
        ([1, 2, np.inf], [1, 2, np.inf], 0),
        ([1, 2, -np.inf], [1, 2, np.inf], np.inf),
        ([1, 2, 3], [1, 2, np.inf], np.inf),
        ([1, 2, np.inf], [1, 2, 3], np.inf),
        ([1, 2, np.nan], [1, 2, np.nan], 0),
        ([np.nan] * 3, [np.nan] * 3, 0),
        ([1, 2], [1, 2, 3], np.inf),
    ],
)
def test_relative_errors(actual, expected, error):
    found = relative_error([np.array(actual, np.float32)], [np.array(expected, np.float32)])
    assert found == pytest.approx(error)


def test_an_output_that_is_nan_is_an_error():
    with np.errstate(invalid="ignore"):
        found = relative_error([np.array([1, 2, np.nan], np.float32)], [np.array([1, 2, 3], np.float32)])
    assert not found <= LIMITS["int8"]


def test_of_integers_the_share_that_differs_counts():
    assert relative_error([np.array([1, 2, 3, 9])], [np.array([1, 2, 3, 4])]) == 0.25


def test_the_worst_output_counts_and_all_must_be_there():
    right, wrong = np.array([1, 2, 3], np.float32), np.array([3, 2, 1], np.float32)
    assert relative_error([right, right], [right, right]) == 0
    assert relative_error([right, wrong], [right, right]) == pytest.approx(2)
    assert relative_error([right], [right, right]) == np.inf


# Utterances


def specs(*inputs: tuple[str, str, tuple[int | None, ...]]):
    return SimpleNamespace(inputs=[TensorSpec(name, np.dtype(dtype), shape) for name, dtype, shape in inputs])


@pytest.mark.parametrize(
    ("inputs", "shapes"),
    [
        ([("input", "float32", (None, None))], [[(1, 16_719)]]),
        ([("input", "float32", (1, 16_000))], [[(1, 16_000)]]),
        ([("x", "float16", (2, 80, 30))], [[(2, 80, 30)]]),
        (
            [("input", "float32", (None, None)), ("attention_mask", "float32", (None, None))],
            [[(1, 16_719)] * 2, [(1, 10_000)] * 2],
        ),
        (
            [("input", "float32", (None, None)), ("attention_mask", "int64", (None, None))],
            [[(1, 16_719)] * 2, [(1, 10_000)] * 2],
        ),
        ([("input_values", "float32", (1, None)), ("attention_mask", "int64", (1, None))], [[(1, 16_719)] * 2]),
    ],
)
def test_utterances_have_the_models_shapes_and_types(inputs, shapes):
    engine = specs(*inputs)
    found = utterances(engine)
    assert [[array.shape for array in arrays] for arrays in found] == shapes
    for arrays in found:
        assert [array.dtype for array in arrays] == [spec.dtype for spec in engine.inputs]
    for spec, array in zip(engine.inputs, found[0]):
        assert spec.name != "attention_mask" or (array == 1).all()


def test_integers_are_0_or_1():
    ((ids,),) = utterances(specs(("ids", "int32", (1, None))))
    assert set(ids.ravel().tolist()) == {0, 1}


def test_the_demos_model_hears_symbols_in_the_utterance(demo):
    with opened(demo.models, "onnxruntime", "f32") as engine:
        (result,) = engine.stream([masked_input(waveform(16_719), 20_000)])
    assert len(greedy_decode(result.outputs[0][0], demo.record.symbols)) >= 5
    assert waveform(16_719).tobytes() == waveform(16_719).tobytes()


# The reference


def test_the_reference_of_an_int8_model_is_near_its_integer_kernels(demo):
    path = demo.models / "int8.onnx"
    inputs = [masked_input(waveform(PADDED_SAMPLES), 10_000)]
    with OnnxruntimeEngine(path, 1, "int8", optimized=False) as reference:
        (expected,) = reference.stream(inputs)
    with OnnxruntimeEngine(path, 1, "int8") as engine:
        (actual,) = engine.stream(inputs)
    error = relative_error(actual.outputs, expected.outputs)
    assert error < LIMITS["int8"] / 4


def saturating_model(path: Path) -> Path:
    """(1, 64) -> (1, 8): a product in int8 whose sums of two do not fit 16 bits, 255 x 127 x 2."""
    weights = np.full((64, 8), 127, np.int8)
    constants = {"scale": np.float32(1), "zero": np.uint8(0), "signed zero": np.int8(0), "weights": weights}
    nodes = [
        helper.make_node("QuantizeLinear", ["input", "scale", "zero"], ["rounded"]),
        helper.make_node("DequantizeLinear", ["rounded", "scale", "zero"], ["data"]),
        helper.make_node("DequantizeLinear", ["weights", "scale", "signed zero"], ["matrix"]),
        helper.make_node("MatMul", ["data", "matrix"], ["output"]),
    ]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, s]) for n, s in (("input", 64), ("output", 8))]
    graph_of_it = helper.make_graph(nodes, "saturating", ends[:1], ends[1:], tensors)
    model = helper.make_model(graph_of_it, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(model, {"precision": "int8"})
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("optimized", [True, False])
def test_products_of_int8_do_not_saturate(tmp_path, optimized):
    """Without a setting they would in onnxruntime, on an x86_64 processor without VNNI."""
    path = saturating_model(tmp_path / "m.onnx")
    with OnnxruntimeEngine(path, 1, "int8", optimized=optimized) as engine:
        (result,) = engine.stream([[np.full((1, 64), 255, np.float32)]])
    assert result.outputs[0].tolist() == [[64 * 255 * 127.0] * 8]
