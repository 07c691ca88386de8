# SPDX-License-Identifier: Apache-2.0
"""Proves that results are read as they were stored, and that results which do not fit their utterances are refused."""

from __future__ import annotations

from contextlib import suppress
from itertools import starmap

import numpy as np
import pytest

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.files import results
from wav2vec2_eval.files.file_list import Source, content_of_file, format_line
from wav2vec2_eval.files.folder import output_folder
from wav2vec2_eval.files.journal import HEADER, Finished, Output, read_journal
from wav2vec2_eval.files.manifest import Manifest
from wav2vec2_eval.files.names import SCORE_NAMES
from wav2vec2_eval.files.run import Run, read_run
from wav2vec2_eval.files.scored import Transcript
from wav2vec2_eval.files.scores import scores_folder, write_scores
from wav2vec2_eval.files.utterances import Utterance, format_utterance
from wav2vec2_eval.speech.latency import Latency

LOGITS = np.arange(3 * 32, dtype=np.float32).reshape(1, 3, 32)
THREE_FRAMES = 1_040  # samples
RUN = Run("pyacl_infer.py", engine="x")


def utterances(num_samples=THREE_FRAMES, *keys):
    return {key: Utterance(key, f"id{key}", num_samples, "A") for key in keys or ("0", "1")}


@pytest.fixture
def inputs(tmp_path):
    """The manifest of two utterances of three frames each."""
    folder = tmp_path / "data"
    folder.mkdir()
    lines = []
    for key in utterances():
        (folder / f"{key}.bin").write_bytes(bytes(4 * THREE_FRAMES))
        lines.append(f"{key} ./{key}.bin (1,{THREE_FRAMES})\n")
    (folder / "bin_file.info").write_text("".join(lines))
    (folder / "utterances.tsv").write_text("".join(map(format_utterance, utterances().values())))
    return Manifest(folder / "bin_file.info")


def infer(folder, inputs, save_type="bin", run=RUN, resume=False, stop=None, outputs=(LOGITS,)):
    """What pyacl_infer.py does; `stop`: the key at which it is interrupted. Returns the keys that were kept."""
    with output_folder(folder, "pyacl_infer.py") as out:
        kept = results.begin(out, run, inputs, inputs.references(), None, resume)
        with results.Store(out, save_type) as store:
            for key in inputs:
                if key == stop:
                    raise KeyboardInterrupt
                if key not in kept:
                    store(key, outputs, Latency(1, 2))
        out.write_text("infer_time.txt", "")
    return kept


def names(folder):
    return {path.name for path in folder.iterdir()} - {".wav2vec2_eval.lock", "files.tsv"}


def score(folder, references=None):
    return {item.key: logits for item, logits in results.Results(Source(folder), references or utterances(), 32)}


@pytest.mark.parametrize("save_type", ["bin", "npy"])
def test_results_are_read_as_they_were_stored(tmp_path, save_type):
    ids = np.array([[1, 2]], np.int64)
    with output_folder(tmp_path, "a.py") as out, results.Store(out, save_type) as store:
        store("a", [LOGITS, ids], Latency(1.5, 2.25))
        store("b", [LOGITS[:, :2]], Latency(0.000001, 3, 0.5, 0.25))
    source = Source(tmp_path)
    finished = read_journal(source)
    assert finished == {
        "a": Finished(Latency(1.5, 2.25), (Output(np.dtype("float32"), (1, 3, 32)), Output(np.dtype("int64"), (1, 2)))),
        "b": Finished(Latency(0.000001, 3, 0.5, 0.25), (Output(np.dtype("float32"), (1, 2, 32)),)),
    }
    assert np.array_equal(results.read_output(source, "a", 0, finished["a"].outputs[0]), LOGITS)
    assert np.array_equal(results.read_output(source, "a", 1, finished["a"].outputs[1]), ids)


@pytest.mark.parametrize("save_type", ["bin", "npy"])
def test_a_run_carries_what_scoring_needs_and_replaces_an_earlier_run(tmp_path, inputs, save_type):
    for _ in range(2):
        infer(tmp_path / "res", inputs, save_type)
        expected = {f"{key}.0.{save_type}" for key in "01"}
        expected |= {"bin_file.info", "utterances.tsv", "results.tsv", "infer_time.txt", "run.json"}
        assert names(tmp_path / "res") == expected
        assert {key: logits.tolist() for key, logits in score(tmp_path / "res").items()} == {
            key: LOGITS[0].tolist() for key in "01"
        }


def test_a_run_with_other_outputs_leaves_none_of_the_earlier_ones(tmp_path, inputs):
    infer(tmp_path / "res", inputs, outputs=(LOGITS, LOGITS))
    infer(tmp_path / "res", inputs, "npy")
    assert {name for name in names(tmp_path / "res") if ".0." in name or ".1." in name} == {"0.0.npy", "1.0.npy"}


def damage(path):
    path.write_bytes(bytes(path.stat().st_size))


DAMAGES = {
    "nothing": (lambda folder: None, {"0"}),
    "a zeroed result": (lambda folder: damage(folder / "0.0.bin"), set()),
    "a cut result": (lambda folder: (folder / "0.0.bin").write_bytes(b"1"), set()),
    "a missing result": (lambda folder: (folder / "0.0.bin").unlink(), set()),
    "no journal": (lambda folder: (folder / "results.tsv").unlink(), set()),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_resuming_keeps_whole_results_only(tmp_path, inputs, what):
    folder = tmp_path / "res"
    with pytest.raises(KeyboardInterrupt):
        infer(folder, inputs, stop="1")
    with pytest.raises(SuiteError, match=r"its run did not finish; run pyacl_infer\.py again, with --resume"):
        score(folder)
    change, kept = DAMAGES[what]
    change(folder)
    assert infer(folder, inputs, resume=True) == kept
    assert list(read_journal(Source(folder))) == ["0", "1"]
    assert len(score(folder)) == 2
    assert read_run(folder).resumed


def strip_header(folder):
    """Give a folder the journal of an older version, with its line in the list of files."""
    path = folder / "results.tsv"
    path.write_text(path.read_text().removeprefix(HEADER))
    with (folder / "files.tsv").open("ab") as file:
        file.write(format_line("results.tsv", content_of_file(path)))


def test_results_of_an_older_version_are_scored(tmp_path, inputs):
    infer(tmp_path / "res", inputs)
    expected = score(tmp_path / "res")
    strip_header(tmp_path / "res")
    actual = score(tmp_path / "res")
    assert {key: logits.tolist() for key, logits in actual.items()} == {
        key: logits.tolist() for key, logits in expected.items()
    }


@pytest.mark.parametrize("stop", ["0", "1", None])
def test_results_of_an_older_version_are_resumed(tmp_path, inputs, stop):
    folder = tmp_path / "res"
    with suppress(KeyboardInterrupt):
        infer(folder, inputs, stop=stop)
    strip_header(folder)
    before = [line.split("\t")[0] for line in (folder / "results.tsv").read_text().splitlines()]
    assert infer(folder, inputs, resume=True) == set(before)
    lines = (folder / "results.tsv").read_text().splitlines(keepends=True)
    assert [lines[0], *(line[:2] for line in lines[1:])] == [HEADER, "0\t", "1\t"]
    assert len(score(folder)) == 2


@pytest.mark.parametrize("is_whole", [True, False])
def test_resuming_keeps_the_scores_of_whole_results_only(tmp_path, inputs, is_whole):
    folder = tmp_path / "res"
    infer(folder, inputs)
    with scores_folder(folder / "t.txt", "postprocess.py", folder, "basic") as out:
        pairs = [(utterance, "A") for utterance in utterances().values()]
        write_scores(out, "t.txt", starmap(Transcript, pairs), "postprocess.py", normalize_text="basic")
    assert names(folder) >= {"t.txt", *SCORE_NAMES}
    if not is_whole:
        (folder / "0.0.bin").unlink()
    infer(folder, inputs, resume=True)
    assert names(folder) & {"t.txt", *SCORE_NAMES} == ({"t.txt", *SCORE_NAMES} if is_whole else set())
    assert read_run(folder).normalize_text == "basic"


def test_the_seconds_of_an_inference_are_those_of_the_journal(tmp_path, inputs):
    infer(tmp_path / "res", inputs)
    assert results.Results(Source(tmp_path / "res"), utterances(), 32).pure_s("1") == 0.001
    for name in ("results.tsv", "files.tsv", "run.json"):  # as another tool leaves its results
        (tmp_path / "res" / name).unlink()
    assert results.Results(Source(tmp_path / "res"), utterances(), 32).pure_s("1") is None


@pytest.mark.parametrize(
    ("resume", "lost", "kept"), [(True, None, True), (True, "1.0.bin", False), (False, None, False)]
)
def test_scores_and_word_times_stay_while_their_results_do(tmp_path, inputs, resume, lost, kept):
    folder = tmp_path / "res"
    infer(folder, inputs)
    scored = {"wer.txt", "utterance_scores.tsv", "words.ctm", "0.srt", "1.srt"}
    with output_folder(folder) as out:
        for name in scored:
            out.write_text(name, "")
    if lost is not None:
        (folder / lost).unlink()
    infer(folder, inputs, resume=resume)
    assert names(folder) & scored == (scored if kept else set())
    assert set(Source(folder).list) & scored == (scored if kept else set())


def test_a_run_under_other_conditions_is_not_resumed(tmp_path, inputs):
    infer(tmp_path / "res", inputs)
    before = names(tmp_path / "res")
    with pytest.raises(SuiteError, match="its results were made with engine = x, expected y"):
        infer(tmp_path / "res", inputs, run=Run("pyacl_infer.py", engine="y"), resume=True)
    assert names(tmp_path / "res") == before
    assert len(score(tmp_path / "res")) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: damage(folder / "1.0.bin"), r"1\.0\.bin: damaged or replaced"),
        (lambda folder: (folder / "1.0.bin").unlink(), r"1\.0\.bin: no such file"),
        (lambda folder: damage(folder / "results.tsv"), r"results\.tsv: damaged or replaced"),
        (lambda folder: damage(folder / "bin_file.info"), r"bin_file\.info: damaged or replaced"),
    ],
)
def test_damaged_results_are_not_scored(tmp_path, inputs, change, message):
    infer(tmp_path / "res", inputs)
    change(tmp_path / "res")
    with pytest.raises(SuiteError, match=message):
        score(tmp_path / "res")


def test_a_stray_result_of_the_other_format_does_not_count(tmp_path, inputs):
    infer(tmp_path / "res", inputs)
    np.save(tmp_path / "res/1.0.npy", -LOGITS)
    assert np.array_equal(score(tmp_path / "res")["1"], LOGITS[0])


@pytest.mark.parametrize(
    ("references", "message"),
    [
        (utterances(THREE_FRAMES, "0"), r"1 extra \(1\)"),
        (utterances(THREE_FRAMES, "0", "1", "2"), r"1 missing \(2\)"),
    ],
)
def test_results_of_other_utterances_are_refused(tmp_path, inputs, references, message):
    infer(tmp_path / "res", inputs)
    with pytest.raises(SuiteError, match=message):
        score(tmp_path / "res", references)


@pytest.mark.parametrize("frames", [0, 1, 2, 4, 6])
@pytest.mark.parametrize("is_ours", [True, False])
def test_another_number_of_frames_is_refused(tmp_path, inputs, frames, is_ours):
    """Without the manifest's copy the padding is not known, and more frames may be right."""
    infer(tmp_path / "res", inputs, outputs=(np.zeros((1, frames, 32), np.float32),))
    if not is_ours:
        for name in ("files.tsv", "bin_file.info", "run.json"):
            (tmp_path / "res" / name).unlink()
    if frames > 3 and not is_ours:
        assert score(tmp_path / "res")["0"].shape == (frames, 32)
        return
    with pytest.raises(SuiteError, match=f"{frames} frames, expected (at least )?3 for its length"):
        score(tmp_path / "res")


@pytest.mark.parametrize("shape", [(1, 3, 31), (2, 3, 32), (3, 32), (1, 1, 3, 32)])
def test_logits_of_another_shape_are_refused(tmp_path, inputs, shape):
    infer(tmp_path / "res", inputs, outputs=(np.zeros(shape, np.float32),))
    with pytest.raises(SuiteError, match=r"expected \(1, frames, 32\) for the symbols of the model"):
        score(tmp_path / "res")


# Results of another tool: no journal, no list.


@pytest.mark.parametrize("num_bytes", [3 * 128 - 1, 2 * 128, 0])
def test_cut_results_of_another_tool_are_refused(tmp_path, num_bytes):
    (tmp_path / "0.0.bin").write_bytes(bytes(num_bytes))
    with pytest.raises(SuiteError, match=r"0\.0\.bin: |utterance 0: "):
        score(tmp_path, utterances(THREE_FRAMES, "0"))


def test_npy_results_of_another_tool_keep_their_type_and_shape(tmp_path):
    np.save(tmp_path / "0.0.npy", LOGITS.astype(np.float16))
    assert score(tmp_path, utterances(THREE_FRAMES, "0"))["0"].dtype == np.float16


def test_results_of_another_tool_in_another_type_are_refused(tmp_path):
    logits = np.random.default_rng(0).standard_normal((1, 3, 32)).astype(np.float32)
    logits.tofile(tmp_path / "0.0.bin")
    assert np.array_equal(score(tmp_path, utterances(THREE_FRAMES, "0"))["0"], logits[0])
    logits.astype(np.float64).tofile(tmp_path / "0.0.bin")
    with pytest.raises(SuiteError, match="expected float32 logits, found numbers that no model gives"):
        score(tmp_path, utterances(THREE_FRAMES, "0"))


def test_a_folder_without_results_is_refused(tmp_path):
    (tmp_path / "0.bin").touch()
    with pytest.raises(SuiteError, match=r"expected results of pyacl_infer\.py, found none"):
        results.check_some(Source(tmp_path))


def test_one_result_in_two_formats_is_refused(tmp_path):
    np.save(tmp_path / "0.0.npy", LOGITS)
    LOGITS.tofile(tmp_path / "0.0.bin")
    with pytest.raises(SuiteError, match=r"holds both 0\.0\.bin and 0\.0\.npy"):
        score(tmp_path, utterances(THREE_FRAMES, "0"))


def test_results_of_no_utterance_are_refused(tmp_path):
    for key in "01":
        LOGITS.tofile(tmp_path / f"{key}.0.bin")
    with pytest.raises(SuiteError, match=r"expected results of 1 utterances, found 1\.0\.bin, too"):
        score(tmp_path, utterances(THREE_FRAMES, "0"))


def test_npy_of_another_shape_is_refused(tmp_path):
    np.save(tmp_path / "a.0.npy", LOGITS)
    with pytest.raises(SuiteError, match=r"expected float32 \(1,2,32\)"):
        results.read_output(Source(tmp_path), "a", 0, Output(np.dtype("float32"), (1, 2, 32)))
