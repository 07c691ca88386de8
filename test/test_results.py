# SPDX-License-Identifier: Apache-2.0
"""Proves that results are read as they were stored, which names a run may replace, and what is refused."""

from __future__ import annotations

import os

import numpy as np
import pytest

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.files import results
from wav2vec2_eval.files.journal import Finished, Output, read_journal
from wav2vec2_eval.files.manifest import Entry, Utterance
from wav2vec2_eval.files.run_folder import Run, write_run
from wav2vec2_eval.speech.latency import Latency

LOGITS = np.arange(3 * 32, dtype=np.float32).reshape(1, 3, 32)


@pytest.mark.parametrize("save_type", ["bin", "npy"])
def test_results_are_read_as_they_were_stored(tmp_path, save_type):
    ids = np.array([[1, 2]], np.int64)
    with results.Store(tmp_path, save_type) as store:
        store("a", [LOGITS, ids], Latency(1.5, 2.25))
        store("b", [LOGITS[:, :2]], Latency(0.000001, 3, 0.5, 0.25))
    finished = read_journal(tmp_path)
    assert finished == {
        "a": Finished(Latency(1.5, 2.25), (Output(np.dtype("float32"), (1, 3, 32)), Output(np.dtype("int64"), (1, 2)))),
        "b": Finished(Latency(0.000001, 3, 0.5, 0.25), (Output(np.dtype("float32"), (1, 2, 32)),)),
    }
    assert np.array_equal(results.read_output(tmp_path, "a", 0, finished["a"].outputs[0]), LOGITS)
    assert np.array_equal(results.read_output(tmp_path, "a", 1, finished["a"].outputs[1]), ids)
    assert set(results.result_keys(tmp_path)) == {"a", "b"}


@pytest.mark.parametrize(
    ("transcriptions", "scored"), [("t.txt", {"t.txt", "wer.txt", "utterance_scores.tsv"}), (None, set())]
)
def test_a_run_replaces_the_results_of_its_manifest_and_recorded_scores(tmp_path, transcriptions, scored):
    write_run(tmp_path, Run("a.py", transcriptions=transcriptions))
    (tmp_path / "bin_file.info").write_text("0 0.bin (1,5)\nk.1 k.bin (1,5)\n")
    is_replaceable = results.replaceable_names(tmp_path)
    own = {"0.0.bin", "0.1.npy", "k.1.0.bin", "results.tsv", "infer_time.txt", "bin_file.info", "utterances.tsv"}
    others = {"1.0.bin", "k.0.bin", "0.bin", "0.0.txt", "t.txt", "wer.txt", "utterance_scores.tsv", "thesis.txt"}
    assert {name for name in own | others if is_replaceable(name)} == own | scored


def test_the_digest_of_the_inputs_depends_on_key_name_shape_and_time(tmp_path):
    def entry(key="0", name="0.bin", shape=(1, 5)):
        path = tmp_path / name
        path.touch()
        os.utime(path, (1, 1))
        return {key: [Entry(key, path, shape)]}

    digests = {
        results.inputs_digest(inputs, with_times=False)
        for inputs in (entry(), entry(key="1"), entry(name="1.bin"), entry(shape=(1, 6)))
    }
    assert len(digests) == 4
    inputs = entry()
    without, with_times = (results.inputs_digest(inputs, each) for each in (False, True))
    os.utime(tmp_path / "0.bin", (2, 2))
    assert results.inputs_digest(inputs, with_times=False) == without
    assert results.inputs_digest(inputs, with_times=True) != with_times


def test_npy_of_another_shape_is_refused(tmp_path):
    np.save(tmp_path / "a.0.npy", LOGITS)
    with pytest.raises(SuiteError, match=r"expected float32 \(1,2,32\)"):
        results.read_output(tmp_path, "a", 0, Output(np.dtype("float32"), (1, 2, 32)))


@pytest.mark.parametrize(
    ("num_bytes", "num_samples"),
    [(3 * 128 - 1, 0), (2 * 128, 1_040), (0, 400)],  # 1040 samples give 3 frames
)
def test_cut_results_of_another_tool_are_refused(tmp_path, num_bytes, num_samples):
    (tmp_path / "0.0.bin").write_bytes(bytes(num_bytes))
    with pytest.raises(SuiteError, match=r"0\.0\.bin: "):
        results.first_outputs(tmp_path, {"0": Utterance("0", "x", num_samples, "A")}, 32)


def test_npy_results_of_another_tool_keep_their_type_and_shape(tmp_path):
    np.save(tmp_path / "0.0.npy", LOGITS.astype(np.float16))
    specs = results.first_outputs(tmp_path, {"0": Utterance("0", "x", 400, "A")}, 32)
    assert specs == {"0": Output(np.dtype("float16"), (1, 3, 32))}
