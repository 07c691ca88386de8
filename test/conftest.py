# SPDX-License-Identifier: Apache-2.0
"""What the tests share: a small model folder, a small LibriSpeech tree, and a way to run the scripts as a user does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

# Where the tests themselves run in the background, Ctrl-C is ignored, and would be in every script that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The shell scripts and the emulator's atc use the Python that runs the tests.
os.environ["PYTHON"] = sys.executable

# No test may reach the hub; the scripts must not try when they are given local paths.
os.environ["HF_HUB_OFFLINE"] = "1"

# As in a user's shell: unbuffered output would hide what is lost when a script ends.
BARE_ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}

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


def make_model(folder: Path, seed: int = 0, vocab_size: int = len(SYMBOLS), **options: object) -> Path:
    """A small random Wav2Vec2ForCTC with the architecture of base-960h, saved with the hub's files."""
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

    torch.manual_seed(seed)
    small = {
        "vocab_size": vocab_size,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "conv_dim": (16,) * 7,
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 2,
    }
    config = Wav2Vec2Config(**(small | options))
    model = Wav2Vec2ForCTC(config)
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


def wait_until(condition: Callable[[], bool], process: subprocess.Popen) -> None:
    """Wait for a state of a script that runs. Its end, too, ends the waiting."""
    deadline_s = time.monotonic() + 120
    while process.poll() is None and not condition():
        if time.monotonic() > deadline_s:
            process.kill()
            pytest.fail("the script neither ended nor came to what is waited for")
        time.sleep(0.0005)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LibriSpeech tree; not to be changed."""
    return make_tree(tmp_path_factory.mktemp("LibriSpeech"))


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory, model_folder: Path, speech: Path) -> Path:
    """A folder in which the chain's commands have been run in order; not to be changed.

    Its path holds a space, since users' paths do.
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
