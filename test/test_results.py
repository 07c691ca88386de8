# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from wav2vec2_eval import results
from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.manifest import Utterance
from wav2vec2_eval.results import Finished, Output
from wav2vec2_eval.timing import Latency

LOGITS = np.arange(3 * 32, dtype=np.float32).reshape(1, 3, 32)


@pytest.mark.parametrize("save_type", ["bin", "npy"])
def test_store_and_read(tmp_path, save_type):
    ids = np.array([[1, 2]], np.int64)
    with results.Store(tmp_path, save_type) as store:
        store("a", [LOGITS, ids], Latency(1.5, 2.25))
        store("b", [LOGITS[:, :2]], Latency(0.000001, 3, 0.5, 0.25))
    finished = results.read_finished(tmp_path)
    assert finished == {
        "a": Finished(Latency(1.5, 2.25), (Output(np.dtype("float32"), (1, 3, 32)), Output(np.dtype("int64"), (1, 2)))),
        "b": Finished(Latency(0.000001, 3, 0.5, 0.25), (Output(np.dtype("float32"), (1, 2, 32)),)),
    }
    assert np.array_equal(results.read_output(tmp_path, "a", 0, finished["a"].outputs[0]), LOGITS)
    assert np.array_equal(results.read_output(tmp_path, "a", 1, finished["a"].outputs[1]), ids)
    assert set(results.result_keys(tmp_path)) == {"a", "b"}


def test_a_cut_last_line_counts_for_nothing(tmp_path):
    with results.Store(tmp_path, "bin") as store:
        store("a", [LOGITS], Latency(1, 2))
        store("b", [LOGITS], Latency(1, 2))
    path = tmp_path / "results.tsv"
    text = path.read_text()
    for end in range(len(text) // 2, len(text)):
        path.write_text(text[:end])
        assert set(results.read_finished(tmp_path)) <= {"a"}


@pytest.mark.parametrize(
    "line",
    [
        "a",
        "a\t1",
        "a\tx\t1\t-\t-\tint8 (1)",
        "a\t1\t1\t-\tint8 (1)",
        "a\t1\t1\t-\t-\tint7 (1)",
        "a\t1\t1\t-\t-\tint8 [1]",
    ],
)
def test_a_malformed_journal_is_refused(tmp_path, line):
    (tmp_path / "results.tsv").write_text(f"{line}\n")
    with pytest.raises(SuiteError, match="line 1: not a line of a results journal"):
        results.read_finished(tmp_path)


def test_npy_of_another_shape_is_refused(tmp_path):
    np.save(tmp_path / "a.0.npy", LOGITS)
    with pytest.raises(SuiteError, match=r"expected float32 \(1,2,32\)"):
        results.read_output(tmp_path, "a", 0, Output(np.dtype("float32"), (1, 2, 32)))


@pytest.mark.parametrize(
    ("num_bytes", "num_samples"),
    [(3 * 128 - 1, 0), (2 * 128, 1_040), (0, 400)],  # 1040 samples give 3 frames
)
def test_results_of_another_tool_that_are_cut(tmp_path, num_bytes, num_samples):
    (tmp_path / "0.0.bin").write_bytes(bytes(num_bytes))
    with pytest.raises(SuiteError, match=r"0\.0\.bin: "):
        results.first_outputs(tmp_path, {"0": Utterance("0", "x", num_samples, "A")}, 32)


def test_results_of_another_tool_as_npy(tmp_path):
    np.save(tmp_path / "0.0.npy", LOGITS.astype(np.float16))
    specs = results.first_outputs(tmp_path, {"0": Utterance("0", "x", 400, "A")}, 32)
    assert specs == {"0": Output(np.dtype("float16"), (1, 3, 32))}
