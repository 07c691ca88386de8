# SPDX-License-Identifier: Apache-2.0
"""What the tests share: a small model, a small LibriSpeech tree, the emulated Ascend host, and ways to run scripts."""

from __future__ import annotations

import importlib
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
import soundfile

if TYPE_CHECKING:
    import onnx

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

PROGRAMS = ROOT / "test/programs"  # small Python programs that tests start
DEMO = ROOT / "test/demo"
DEMO_MODEL = f"--model_name_or_path={DEMO / 'model'}"
DEMO_DATA = ("--which_dataset=clean", f"--dataset_path={DEMO / 'LibriSpeech'}")
SET_ENV = ROOT / "test/emulator/set_env.sh"
BEHIND_SET_ENV = ("bash", "-c", 'source "$0" && exec "$@"', str(SET_ENV))  # then a command, for an Ascend host

# A shell makes its background jobs ignore Ctrl-C. If the tests are such a job, every script that they start would
# inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The shell scripts and the emulator's atc use the Python that runs the tests.
os.environ["PYTHON"] = sys.executable

# The suite is held to the strictest reading of CANN's documents.
os.environ["ACL_EMULATOR_STRICT"] = "1"

# No test may reach the hub. The scripts must not try to when they are given local paths.
os.environ["HF_HUB_OFFLINE"] = "1"

# On a slow machine a script would say on stderr how far it has come; test_progress.py tests that.
os.environ["TQDM_DISABLE"] = "1"

# Scripts buffer their output, as in a user's shell: unbuffered, a script would lose nothing at its end.
BARE_ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}

# Switches off what libraries report in this process, too. The scripts must do that by themselves.
importlib.import_module("wav2vec2_eval")

SYMBOLS = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ"]

# id -> (samples, text). Sorted as text, 121 would come before 61 and -0010 before -0009.
SPEECH = {
    "61-70968-0009": (9_000, "HE BEGAN"),
    "61-70968-0010": (10_000, "A CONFUSED COMPLAINT"),
    "61-123-0000": (33_361, "AGAINST THE WIZARD WHO HAD VANISHED"),
    "121-70-0000": (400, "BEHIND"),
    "121-70-0001": (21_037, "THE CURTAIN ON THE LEFT"),
}
ORDER = ["61-123-0000", "61-70968-0009", "61-70968-0010", "121-70-0000", "121-70-0001"]


def write_utterance(tree: Path, utterance_id: str, samples: np.ndarray, text: str | None, rate: int = 16_000) -> Path:
    """Add one utterance to a LibriSpeech split folder; returns the FLAC's path."""
    speaker, chapter, _ = utterance_id.split("-")
    folder = tree / speaker / chapter
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{utterance_id}.flac"
    soundfile.write(path, samples, rate, subtype="PCM_16")
    if text is not None:
        transcripts = folder / f"{speaker}-{chapter}.trans.txt"
        lines = transcripts.read_text(encoding="utf-8") + "\n" if transcripts.exists() else ""
        transcripts.write_text(f"{lines}{utterance_id} {text}", encoding="utf-8")  # no newline at the end
    return path


def noise(num_samples: int, seed: int = 0) -> np.ndarray:
    """(num_samples,) float64 with an offset and a slow swell, so that normalisation and order matter."""
    time = np.linspace(0, 1, num_samples)
    return 0.03 + 0.2 * (0.1 + time) * np.random.default_rng(seed).standard_normal(num_samples).clip(-3, 3)


def make_tree(root: Path) -> Path:
    """A LibriSpeech tree with the utterances of SPEECH in test-clean; returns `root`."""
    for seed, (utterance_id, (num_samples, text)) in enumerate(SPEECH.items()):
        write_utterance(root / "test-clean", utterance_id, noise(num_samples, seed), text)
    return root


# A model's type in config.json -> the start of its classes' names, and the options of a small one.
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "wav2vec2": ("Wav2Vec2", {}),
    "hubert": ("Hubert", {}),
    "wavlm": ("WavLM", {}),
    "data2vec-audio": ("Data2VecAudio", {"num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 19}),
    "unispeech-sat": ("UniSpeechSat", {}),
}


def make_model(
    folder: Path, seed: int = 0, vocab_size: int = len(SYMBOLS), kind: str = "wav2vec2", **options: Any
) -> Path:
    """A small random CTC model with the architecture of base-960h, saved with the hub's files."""
    import torch
    import transformers
    from transformers import Wav2Vec2FeatureExtractor

    torch.manual_seed(seed)
    small: dict[str, Any] = {
        "vocab_size": vocab_size,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "conv_dim": (16,) * 7,
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 2,
    }
    prefix, others = KINDS[kind]
    config = getattr(transformers, f"{prefix}Config")(**(small | others | options))
    model = getattr(transformers, f"{prefix}ForCTC")(config)
    with torch.no_grad():  # spread the logits, so that transcripts vary and hold blanks
        model.lm_head.weight.normal_(0, 1)
        model.lm_head.bias[0] = 4
    model.save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=False).save_pretrained(folder)
    symbols = SYMBOLS[:vocab_size] + [f"x{index}" for index in range(len(SYMBOLS), vocab_size)]
    for name, content in {
        "vocab.json": {symbol: index for index, symbol in enumerate(symbols)},
        "tokenizer_config.json": {
            "tokenizer_class": "Wav2Vec2CTCTokenizer",
            "pad_token": "<pad>",
            "word_delimiter_token": "|",
            "do_lower_case": False,
            "replace_word_delimiter_char": " ",
        },
        "special_tokens_map.json": {
            "bos_token": "<s>",
            "eos_token": "</s>",
            "unk_token": "<unk>",
            "pad_token": "<pad>",
        },
    }.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


def write_two_input_model(path: Path, element: int | None = None) -> Path:
    """A model with the inputs `a` (1, n) and `b` (1, n), float32 or `element`, and the outputs a + b and a - b."""
    import onnx
    from onnx import TensorProto, helper

    element = element or TensorProto.FLOAT
    inputs = [helper.make_tensor_value_info(name, element, [1, "n"]) for name in "ab"]
    outputs = [helper.make_tensor_value_info(name, element, [1, "n"]) for name in ("sum", "difference")]
    nodes = [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Sub", ["a", "b"], ["difference"])]
    graph = helper.make_graph(nodes, "two inputs", inputs, outputs)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=8), path)
    return path


def load_for_export(model_folder: Path) -> Any:
    """The model as export_onnx.py traces it."""
    from wav2vec2_eval.export.graph import fold_weight_norm
    from wav2vec2_eval.sources.pytorch_model import load_model

    model = load_model(str(model_folder), attention="eager")
    fold_weight_norm(model)
    return model


def write_big(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let PyTorch write every weight into a file of its own, beside the model, as it does above 2 GB."""
    import onnx
    from onnx.external_data_helper import set_external_data

    from wav2vec2_eval.export import graph

    trace = graph.trace

    def trace_as_above_2_gb(module: Any, names: list[str], path: Path) -> None:
        trace(module, names, path)
        model = onnx.load(path)
        for number, tensor in enumerate(model.graph.initializer):
            set_external_data(tensor, f"onnx__MatMul_{number}")
        onnx.save(model, path)

    monkeypatch.setattr(graph, "trace", trace_as_above_2_gb)


def run_script(
    name: str, *arguments: object, cwd: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a script of the suite from the folder `cwd`, as a user would; does not check its status."""
    return subprocess.run(
        [sys.executable, str(ROOT / name), *map(str, arguments)],
        cwd=cwd,
        env={**BARE_ENVIRONMENT, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def run_ok(name: str, *arguments: object, cwd: Path) -> str:
    """Run a script that must succeed without a word on stderr; returns its stdout."""
    done = run_script(name, *arguments, cwd=cwd)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def script_main(name: str) -> Callable[[Sequence[str]], int]:
    """The `main` of a script, for tests that run it in this process because they replace functions of the library."""
    return runpy.run_path(str(ROOT / name))["main"]


def at_startup(folder: Path, program: str, **variables: str) -> dict[str, str]:
    """An environment in which every Python runs a file of PROGRAMS before its own script; `folder` gets a copy."""
    shutil.copy(PROGRAMS / program, folder / "sitecustomize.py")
    return {"PYTHONPATH": str(folder), **variables}


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait until a running script has reached a state, or has ended."""
    deadline_s = time.monotonic() + 120
    while process.poll() is None and not condition():
        if time.monotonic() > deadline_s:
            process.kill()
            pytest.fail("the script neither ended nor reached the state that the test waits for")
        time.sleep(0.0005)


def endless_file(folder: Path, kind: str) -> Path:
    """A `pipe` that nobody writes to, a `device` without end, or a `large` file of 10 GB that takes no place."""
    path = folder / "lengths.txt"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        return Path("/dev/zero")
    else:
        with path.open("wb") as file:
            file.truncate(10 << 30)  # a hole
    return path


def members(group: int) -> list[str]:
    """The processes of a group that have not ended. (A process that has ended stays listed until its parent waits.)"""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # the process has ended meanwhile
            state, _parent, its_group = path.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state != "Z":
                found.append(path.parent.name)
    return found


# The emulated Ascend host


def emulator_environment(cwd: Path, **emulator: object) -> dict[str, str]:
    """The environment with the emulator's settings: DEVICE_MS=10 sets ACL_EMULATOR_DEVICE_MS.

    The emulator writes its report to cwd/report.json.
    """
    return {
        **os.environ,
        "ACL_EMULATOR_REPORT": str(cwd / "report.json"),
        **{f"ACL_EMULATOR_{name}": str(value) for name, value in emulator.items()},
    }


def on_ascend(
    *command: object, cwd: Path, environment: Mapping[str, str] | None = None, **emulator: object
) -> subprocess.CompletedProcess[str]:
    """Run a command after the emulator's set_env.sh; does not check its status."""
    return subprocess.run(
        [*BEHIND_SET_ENV, *map(str, command)],
        cwd=cwd,
        env={**emulator_environment(cwd, **emulator), **(environment or {})},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def program_on_ascend(name: str, *arguments: object, cwd: Path, **emulator: object) -> str:
    """Run a file of PROGRAMS, which must succeed and release everything, on the emulator; returns its stdout."""
    path = {"PYTHONPATH": str(ROOT)}  # set_env.sh adds the emulator
    done = on_ascend(sys.executable, PROGRAMS / name, *arguments, cwd=cwd, environment=path, **emulator)
    assert (done.returncode, done.stderr) == (0, "")
    check_clean(cwd)
    return done.stdout


def compile_on_ascend(cwd: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run onnx2om.sh for the emulator's chip; does not check its status."""
    return on_ascend("bash", ROOT / "onnx2om.sh", "Ascend310P3", *options, cwd=cwd)


def infer_on_ascend(cwd: Path, name: str, *options: str) -> None:
    """Compile ./models/<name>.onnx and infer ./pre into ./res on the emulator. Both must succeed."""
    done = compile_on_ascend(cwd, name)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    done = on_ascend(
        sys.executable,
        ROOT / "pyacl_infer.py",
        f"--model_path=./models/{name}.om",
        "--input_info_file_path=./pre/bin_file.info",
        "--infer_res_save_path=./res",
        *options,
        cwd=cwd,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


def emulator_report(cwd: Path) -> dict[str, Any]:
    """What the emulator wrote at the end of its last process."""
    return json.loads((cwd / "report.json").read_text())


def check_clean(cwd: Path) -> None:
    """The last process on the emulator kept the contract of pyACL and released everything."""
    report = emulator_report(cwd)
    assert (report["violations"], report["advice"], report["leaks"]) == ([], [], [])


def small_graph(masked: bool, num_symbols: int = 8) -> onnx.ModelProto:
    """(1, T) -> (1, F, V): one convolution with the frames of wav2vec 2.0. `masked`: of waveform times mask."""
    import onnx
    from onnx import TensorProto, helper

    names = ["input", "attention_mask"] if masked else ["input"]
    nodes = [helper.make_node("Mul", names, ["masked"])] if masked else []
    nodes += [
        helper.make_node("Unsqueeze", ["masked" if masked else "input"], ["channel"], axes=[1]),
        helper.make_node("Conv", ["channel", "kernel"], ["features"], strides=[320]),
        helper.make_node("Transpose", ["features"], ["output"], perm=[0, 2, 1]),
    ]
    kernel = np.random.default_rng(0).standard_normal((num_symbols, 1, 400)).astype(np.float32)
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, "data_len"]) for name in names],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, "frames", num_symbols])],
        [onnx.numpy_helper.from_array(kernel, "kernel")],
    )
    return helper.make_model(graph, ir_version=6, opset_imports=[helper.make_opsetid("", 11)])


def write_inputs(cwd: Path, lengths: Sequence[int], masked: bool) -> list[list[np.ndarray]]:
    """Write utterances of these padded lengths with their manifest to ./pre; returns their inputs."""
    folder = cwd / "pre"
    folder.mkdir()
    utterances: list[list[np.ndarray]] = []
    lines = []
    for key, length in enumerate(lengths):
        waveform = np.random.default_rng(key).standard_normal((1, length)).astype(np.float32)
        mask = (np.arange(length) < length - 1_000).astype(np.float32)[None]
        utterances.append([waveform, mask] if masked else [waveform])
        for name, array in zip((f"{key}.bin", f"{key}.mask.bin"), utterances[-1]):
            array.tofile(folder / name)
            lines.append(f"{key} ./pre/{name} (1,{length})\n")
    (folder / "bin_file.info").write_text("".join(lines))
    return utterances


@pytest.fixture(scope="session")
def ascend(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An Ascend user's folder: a compiled model, and three utterances in two gears; not to be changed."""
    import onnx

    cwd = tmp_path_factory.mktemp("ascend")
    (cwd / "models").mkdir()
    onnx.save(small_graph(masked=False), cwd / "models/wav2vec2-base-960h.onnx")
    (cwd / "gears.txt").write_text("20000\n10000\n")
    assert compile_on_ascend(cwd, "--gears_from", "gears.txt").returncode == 0
    write_inputs(cwd, [10_000, 20_000, 10_000], masked=False)
    return cwd


@pytest.fixture
def ascend_user(ascend: Path, tmp_path: Path) -> Path:
    """A copy of the Ascend user's folder, to be changed."""
    return shutil.copytree(ascend, tmp_path / "user")


# The CPU host


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LibriSpeech tree; not to be changed."""
    return make_tree(tmp_path_factory.mktemp("LibriSpeech"))


class Export(NamedTuple):
    """What export_onnx.py has written and printed."""

    path: Path
    output: str


@pytest.fixture(scope="session")
def masked_export(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Export:
    """The masked model, in a folder that is not to be changed."""
    folder = tmp_path_factory.mktemp("masked")
    model = f"--model_name_or_path={model_folder}"
    output = run_ok("export_onnx.py", "--model_save_dir=.", "--attention_mask", model, cwd=folder)
    return Export(folder / "wav2vec2-base-960h-masked.onnx", output)


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory, model_folder: Path, speech: Path) -> Path:
    """A folder in which the chain's commands have been run in order; not to be changed.

    The folder's path holds a space, because users' paths do.
    """
    cwd = tmp_path_factory.mktemp("a chain")
    model = f"--model_name_or_path={model_folder}"
    data = ("--which_dataset=clean", f"--dataset_path={speech}")
    run_ok("preprocess.py", "--pre_data_save_path=./pre_data/clean", *data, model, cwd=cwd)
    run_ok("export_onnx.py", "--model_save_dir=./models", model, cwd=cwd)
    run_ok(
        "pyacl_infer.py",
        "--model_path=./models/wav2vec2-base-960h.onnx",
        "--input_info_file_path=./pre_data/clean/bin_file.info",
        "--infer_res_save_path=./om_infer_res_clean",
        cwd=cwd,
    )
    run_ok(
        "postprocess.py",
        "--bin_file_path=./om_infer_res_clean",
        "--res_save_path=./om_infer_res_clean/transcriptions.txt",
        "--which_dataset=clean",
        model,
        cwd=cwd,
    )
    run_ok(
        "pth_online_infer.py",
        "--pred_res_save_path=./pth_online_infer_res/clean/transcriptions.txt",
        *data,
        model,
        "--gears=default",
        cwd=cwd,
    )
    return cwd
