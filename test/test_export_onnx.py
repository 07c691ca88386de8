# SPDX-License-Identifier: Apache-2.0
"""Proves that the export of one model does not replace that of another unasked, and that every kind of model goes
through the whole chain."""

from __future__ import annotations

import json
import os
import runpy
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
import torch
from transformers import AutoModelForCTC, AutoProcessor, AutoTokenizer

from wav2vec2_eval.engines.model_file import read_metadata
from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.files.model_record import ModelRecord, format_record
from wav2vec2_eval.files.names import MODEL_RECORD_KEY
from wav2vec2_eval.sources.model_folder import feature_extractor, symbols

from conftest import ORDER, ROOT, SYMBOLS, make_model, run_script, script_main, small_graph

DEFAULT = "wav2vec2-base-960h.onnx"


def record_of(model: str, folder: Path) -> ModelRecord:
    """The record of a model that the user has named `model`, and whose small files are in `folder`."""
    return ModelRecord(model, feature_extractor(str(folder)), symbols(str(folder)))


def write_export(path: Path, model: str, record: Path) -> bytes:
    """A file as if it had been exported from `model`, whose symbols are those of the folder `record`."""
    graph = small_graph(masked=False)
    onnx.helper.set_model_props(graph, {MODEL_RECORD_KEY: format_record(record_of(model, record))})
    path.parent.mkdir(exist_ok=True)
    onnx.save(graph, path)
    return path.read_bytes()


class Started(Exception):
    """The export has got as far as loading the model."""


@pytest.fixture
def export(monkeypatch):
    """export_onnx.py up to loading the model."""

    def load(*_: object, **__: object) -> None:
        raise Started

    monkeypatch.setattr("wav2vec2_eval.sources.pytorch_model.load_model", load)
    return script_main("export_onnx.py")


@pytest.fixture
def here(tmp_path, monkeypatch, model_folder):
    """The current folder, with the model in ./mine/model and a link to it."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(model_folder, tmp_path / "mine/model")
    (tmp_path / "link").symlink_to("mine/model")
    return tmp_path


@pytest.mark.parametrize("options", [(), ("--attention_mask",)])
def test_the_export_of_another_model_is_not_replaced(here, export, options):
    path = here / "models" / (DEFAULT if not options else "wav2vec2-base-960h-masked.onnx")
    before = write_export(path, "facebook/hubert-large-ls960-ft", here / "mine/model")
    with pytest.raises(SuiteError) as error:
        export(["--model_save_dir=models", "--model_name_or_path=./mine/model", *options])
    assert len(str(error.value).splitlines()) == 1
    for part in (
        f"models/{path.name} was exported from facebook/hubert-large-ls960-ft, and ./mine/model would",
        "=model ",
    ):
        assert part in str(error.value)
    assert path.read_bytes() == before


def test_the_int8_file_of_another_model_is_not_replaced(here):
    write_export(here / "models/wav2vec2-base-960h-int8.onnx", "a/b", here / "mine/model")
    done = run_script(
        "export_onnx.py",
        *("--model_save_dir=models", "--model_name_or_path=./mine/model", "--quantize=int8", "--calibration=none"),
        cwd=here,
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "wav2vec2-base-960h-int8.onnx was exported from a/b" in done.stderr


@pytest.mark.parametrize(
    ("earlier", "options"),
    [
        ("./mine/model", ()),
        ("mine/model/", ()),
        ("link", ()),
        ("a/b", ("--model_name=wav2vec2-base-960h",)),
        ("a/b", ("--model_name=other",)),
        ("a/b", ("--attention_mask",)),  # another file
    ],
)
def test_the_same_model_another_name_and_what_is_asked_for_are_exported(here, export, earlier, options):
    write_export(here / "models" / DEFAULT, earlier, here / "mine/model")
    with pytest.raises(Started):
        export(["--model_save_dir=models", "--model_name_or_path=./mine/model", *options])


@pytest.mark.parametrize("make", [lambda path: path.write_text("text"), os.mkfifo, lambda path: path.write_bytes(b"")])
def test_a_file_of_unknown_origin_is_replaced_as_before(here, export, make):
    (here / "models").mkdir()
    make(here / "models" / DEFAULT)
    with pytest.raises(Started):
        export(["--model_save_dir=models", "--model_name_or_path=./mine/model"])


@pytest.mark.parametrize(
    ("model", "proposed"),
    [("org/name", "name"), ("./a/models--org--name", "name"), (".", "NAME"), ("x-int8", "NAME"), ("/m/a.onnx", "NAME")],
)
def test_the_proposed_name_is_one_that_is_taken(here, model, proposed):
    write_export(here / "models" / DEFAULT, "a/b", here / "mine/model")
    check_replaced = runpy.run_path(str(ROOT / "export_onnx.py"))["check_replaced"]
    with pytest.raises(SuiteError, match=f"give --model_name={proposed} to keep both"):
        check_replaced([here / "models" / DEFAULT], record_of(model, here / "mine/model"))


def test_the_export_in_another_language_is_not_replaced(here, export):
    """An MMS model's folder has a vocabulary for each language."""
    folder = here / "mine/model"
    names = {symbol: index for index, symbol in enumerate(SYMBOLS)}
    swapped = {symbol: {6: 7, 7: 6}.get(index, index) for symbol, index in names.items()}
    (folder / "vocab.json").write_text(json.dumps({"eng": names, "fra": swapped}))
    write_json(folder / "tokenizer_config.json", target_lang="eng")
    write_export(here / "models" / DEFAULT, "./mine/model", folder)
    options = ["--model_save_dir=models", "--model_name_or_path=./mine/model"]
    with pytest.raises(Started):
        export(options)
    with pytest.raises(SuiteError, match=r"was exported with other symbols, and \./mine/model would replace it"):
        export([*options, "--target_lang=fra"])


@pytest.mark.parametrize("name", ["", "a/b", "..", ".a", "-a", "a-masked", "a-int8", "a.onnx", "a.om", "a\nb"])
def test_names_that_the_suite_could_not_read_are_refused(export, capfd, name):
    with pytest.raises(SystemExit):
        export(["--model_save_dir=models", f"--model_name={name}"])
    assert "--model_name: expected a name without" in capfd.readouterr().err


def write_json(path: Path, **changes: object) -> None:
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(content | changes))


def as_head_with_sentence_tokens(folder: Path) -> None:
    """As fine-tunes with vocab_size=len(tokenizer): the tokenizer adds <s> and </s> behind 30 symbols."""
    names = [*(name for name in SYMBOLS if name not in ("<s>", "</s>", "<pad>", "<unk>")), "[UNK]", "[PAD]"]
    (folder / "vocab.json").write_text(json.dumps({name: index for index, name in enumerate(names)}))
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        write_json(folder / name, unk_token="[UNK]", pad_token="[PAD]")
    write_json(folder / "config.json", pad_token_id=len(names) - 1)


def as_mms(folder: Path) -> None:
    names = {symbol: index for index, symbol in enumerate(SYMBOLS)}
    (folder / "vocab.json").write_text(json.dumps({"eng": names, "fra": dict(names)}))
    write_json(folder / "tokenizer_config.json", target_lang="eng")


def as_phonemes(folder: Path) -> None:
    write_json(folder / "tokenizer_config.json", tokenizer_class="Wav2Vec2PhonemeCTCTokenizer", do_phonemize=False)


LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
CHAINS = {
    "sentence tokens": ({}, as_head_with_sentence_tokens, ()),
    "MMS": ({**LARGE, "adapter_attn_dim": 16}, as_mms, ()),
    "phonemes, masked": ({}, as_phonemes, ("--attention_mask",)),
    "HuBERT, masked": ({"kind": "hubert"}, lambda folder: None, ("--attention_mask",)),
    "WavLM": ({"kind": "wavlm"}, lambda folder: None, ()),
}


@pytest.mark.parametrize(("options", "change", "masked"), CHAINS.values(), ids=CHAINS)
def test_the_whole_chain_equals_transformers(tmp_path, monkeypatch, speech, options, change, masked):
    """Preprocess, export, infer, score; and the PyTorch baseline: texts are those of transformers' own classes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("wav2vec2_eval.export.proof.MASKED_PROOF_SAMPLES", (400, 33_360))  # the proof has its own tests
    monkeypatch.setattr("wav2vec2_eval.export.proof.GEARS", (10_000, 40_000))
    folder = make_model(tmp_path / "model", **options)
    change(folder)
    data = ["--which_dataset=clean", f"--dataset_path={speech}", "--model_name_or_path=./model"]
    gears = [] if masked else ["--gears=none"]
    script_main("preprocess.py")(["--pre_data_save_path=pre", "--num_workers=1", *gears, *masked, *data])
    script_main("export_onnx.py")(["--model_save_dir=.", "--model_name=mine", "--model_name_or_path=./model", *masked])
    name = f"mine{'-masked' if masked else ''}.onnx"
    assert json.loads(read_metadata(Path(name))[MODEL_RECORD_KEY])["model"] == "./model"
    script_main("pyacl_infer.py")(
        [f"--model_path={name}", "--input_info_file_path=pre/bin_file.info", "--infer_res_save_path=res"]
        + (["--input_dtypes=float32,float32"] if masked else [])
    )
    script_main("postprocess.py")(["--bin_file_path=res", "--res_save_path=res/t.txt"])
    script_main("pth_online_infer.py")(["--pred_res_save_path=pth/t.txt", *data])
    expected = [text_of(folder, speech, each) for each in ORDER]
    assert any(expected)
    for found in ("res", "pth"):
        lines = (tmp_path / found / "t.txt").read_text(encoding="utf-8").splitlines()
        assert [line.split() for line in lines] == [text.split() for text in expected]


def text_of(folder: Path, speech: Path, utterance: str) -> str:
    speaker, chapter, _ = utterance.split("-")
    waveform, _ = soundfile.read(speech / "test-clean" / speaker / chapter / f"{utterance}.flac", dtype="float32")
    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForCTC.from_pretrained(folder).eval()
    with torch.inference_mode():
        inputs = processor.feature_extractor(waveform, sampling_rate=16_000, return_tensors="pt").input_values
        ids = model(inputs).logits[0].argmax(-1)
    return str(AutoTokenizer.from_pretrained(folder).decode(np.asarray(ids), skip_special_tokens=False))
