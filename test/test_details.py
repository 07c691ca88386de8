# SPDX-License-Identifier: Apache-2.0
"""Proves what the report says of each length, speaker, latency, confusion and worst utterance."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from wav2vec2_eval.errors import SuiteError
from wav2vec2_eval.files.file_list import Source
from wav2vec2_eval.files.folder import output_folder
from wav2vec2_eval.files.journal import HEADER, Finished, Output, format_finished
from wav2vec2_eval.files.run import Run
from wav2vec2_eval.files.scored import Transcript
from wav2vec2_eval.files.scores import scores_folder, write_scores
from wav2vec2_eval.files.utterances import Utterance, format_utterance
from wav2vec2_eval.report import details
from wav2vec2_eval.report.results import read_results
from wav2vec2_eval.report.utterances import read_utterances
from wav2vec2_eval.speech.audio import SAMPLE_RATE
from wav2vec2_eval.speech.latency import Latency, format_figures, summarise
from wav2vec2_eval.speech.wer import word_errors

# id, seconds, reference, hypothesis
SPEECH = [
    ("61-1-0", 1.0, "THE CAT SAT", "THE CAT SAT"),
    ("61-1-1", 1.9, "THE CAT SAT", "A CAT SAT"),
    ("62-1-0", 2.0, "THE DOG RAN VERY FAR", "A DOG VERY FAR AWAY"),
    ("62-1-1", 12.5, "YES", "NO NO NO"),
    ("63-1-0", 4.0, "THE END", "A"),
    ("63-1-1", 4.1, None, "WHO KNOWS"),
]


def make_results(
    folder: Path,
    speech=SPEECH,
    *,
    normalize_text="none",
    journal=None,
    warm_up=None,
    padded=None,
    pure_s=0.25,
    data=None,
):
    """A scored folder; `journal` has the latencies of pyacl_infer.py, which other scripts do not keep."""
    utterances = [
        Utterance(str(key), name, int(seconds * SAMPLE_RATE), text)
        for key, (name, seconds, text, _) in enumerate(speech)
    ]
    run = Run("pyacl_infer.py", engine="x 1", warm_up=warm_up, data=data or Run(which_dataset="clean", padded=padded))
    with output_folder(folder, "pyacl_infer.py") as out:
        times = summarise(journal or [Latency(250, 300)] * len(speech))
        out.write_text("infer_time.txt", format_figures(times))
        out.write_run(run)
        if journal is not None:
            spec = (Output(np.dtype("float32"), (1, 1, 32)),)
            rows = [format_finished(str(key), Finished(latency, spec)) for key, latency in enumerate(journal)]
            out.write_text("results.tsv", HEADER + "".join(rows))
            lengths = [-(-each.num_samples // 16_000) * 16_000 for each in utterances]
            out.write_text(
                "bin_file.info", "".join(f"{key} {key}.bin (1,{each})\n" for key, each in enumerate(lengths))
            )
            out.write_text("utterances.tsv", "".join(map(format_utterance, utterances)))
    transcripts = [Transcript(utterance, said, pure_s) for utterance, (*_, said) in zip(utterances, speech)]
    with scores_folder(folder / "t.txt", "postprocess.py", folder, normalize_text) as out:
        write_scores(out, "t.txt", transcripts, "postprocess.py", normalize_text=normalize_text)
    return Source(folder)


def details_of(source: Source):
    assert source.run is not None
    utterances = read_utterances(source, source.run.normalize_text or "none")
    results = read_results(source, len(utterances))
    found = details.details(results, utterances, details.worst_speakers(utterances))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    return found


def test_each_length_has_its_wer(tmp_path):
    found = details_of(make_results(tmp_path))["WER by length"]
    bars = [(bar["from (s)"], bar["to (s)"], bar["utterances"], bar["errors"], bar["words"]) for bar in found]
    assert bars == [(0, 2, 2, 1, 6), (2, 4, 1, 3, 5), (4, 6, 1, 2, 2), (12, 14, 1, 3, 1)]
    assert [bar["WER"] for bar in found] == [1 / 6, 3 / 5, 1, 3]
    assert found[0]["WER 95% low"] <= 1 / 6 <= found[0]["WER 95% high"]
    assert "WER 95% low" not in found[1]  # of a single utterance nobody knows it


@pytest.mark.parametrize(
    ("longest_s", "width_s"), [(0.5, 0.5), (5, 0.5), (5.1, 1), (35, 5), (3000, 300), (99_999, 9999.9)]
)
def test_there_are_few_lengths_whatever_the_longest(longest_s, width_s):
    seconds = np.linspace(0, longest_s, 1000)
    bars = details.wer_by_length(seconds, np.ones(1000, np.int64), np.ones(1000, np.int64))
    assert bars[0]["to (s)"] == pytest.approx(width_s) and len(bars) <= 11
    assert sum(bar["utterances"] for bar in bars) == 1000


def test_each_speaker_has_its_wer_and_the_worst_comes_first(tmp_path):
    found = details_of(make_results(tmp_path))["WER by speaker"]
    assert [(each["speaker"], each["errors"], each["words"], each["utterances"]) for each in found] == [
        ("62", 6, 6, 2),
        ("63", 2, 2, 1),
        ("61", 1, 6, 2),
    ]


def test_all_columns_have_the_same_speakers(tmp_path):
    """Those that are the worst in the reference, however many there are."""
    many = [(f"{number}-1-0", 1.0, "A", "B" if number > 60 else "A") for number in range(1, 101)]
    other = [(name, seconds, text, "A" if said == "B" else "B") for name, seconds, text, said in many]
    reference, run = (read_utterances(make_results(tmp_path / each[0][3], each)) for each in (many, other))
    speakers = details.worst_speakers(reference)
    assert speakers == list(range(61, 101))
    for utterances, rate in ((reference, 1), (run, 0)):
        found = details.wer_by_speaker(utterances, speakers)
        assert [(each["speaker"], each["WER"]) for each in found] == [(str(speaker), rate) for speaker in speakers]
    assert details.worst_speakers(None) == []


@pytest.mark.parametrize("said", ["THE\u3000CAT", "THE  CAT", "THE CAT "])
def test_other_white_space_is_no_error(tmp_path, said):
    found = details_of(make_results(tmp_path, [("61-1-0", 1.0, "THE CAT", said), SPEECH[2]]))
    assert [each["id"] for each in found["worst"]] == ["62-1-0"]
    assert found["WER by length"][0]["errors"] == 0


def test_no_errors_in_no_words_are_a_rate_of_0(tmp_path):
    found = details_of(make_results(tmp_path, [("61-1-0", 1.0, "", ""), ("62-1-0", 9.0, "A", "A")]))
    assert [bar["WER"] for bar in found["WER by length"]] == [0, 0]


def test_counts_that_do_not_fit_their_texts_are_refused(tmp_path):
    source = make_results(tmp_path)
    path = tmp_path / "utterance_scores.tsv"
    text = path.read_text().replace("\t1\t0\t0\t3\t", "\t0\t1\t1\t3\t")
    with output_folder(tmp_path, "pyacl_infer.py") as out:
        out.write_text(path.name, text)
    with pytest.raises(SuiteError, match=r"expected 1 errors of utterance 61-1-1, as its texts have, found 2"):
        read_utterances(Source(source.folder))


@pytest.mark.parametrize("name", ["own recording", "61-1", "x-1-2", "61-1-2-3", "٦١-1-2", "01-2-3"])
def test_other_ids_name_no_speakers(tmp_path, name):
    assert "WER by speaker" not in details_of(make_results(tmp_path, [*SPEECH, (name, 1.0, "A", "A")]))


def test_ids_of_own_recordings_name_no_speakers(tmp_path):
    assert "WER by speaker" not in details_of(make_results(tmp_path, data=Run(which_dataset="custom")))


def test_confusions_are_counted_word_by_word(tmp_path):
    found = details_of(make_results(tmp_path))["confusions"]
    counts = [(each["reference"], each["hypothesis"], each["count"]) for each in found]
    assert counts[0] == ("THE", "A", 3)
    assert set(counts[1:]) == {("RAN", "", 1), ("", "AWAY", 1), ("YES", "NO", 1), ("", "NO", 2), ("END", "", 1)}
    assert [number for *_, number in counts] == sorted((number for *_, number in counts), reverse=True)


def test_the_worst_are_shown_with_their_edits(tmp_path):
    found = details_of(make_results(tmp_path))["worst"]
    assert [each["id"] for each in found] == ["62-1-1", "63-1-0", "62-1-0", "61-1-1"]
    for each in found:
        expected = next(item for item in SPEECH if item[0] == each["id"])
        assert (each["seconds"], each["reference"], each["hypothesis"]) == expected[1:]
        assert each["errors"] == word_errors([each["reference"]], [each["hypothesis"]])[0].errors
        assert each["WER"] == each["errors"] / each["words"]
    assert found[3]["edits"] == [["substitute", "THE", "A"], ["equal", "CAT SAT", "CAT SAT"]]


def test_a_reference_without_words_is_the_worst(tmp_path):
    worst = details_of(make_results(tmp_path, [*SPEECH, ("64-1-1", 1.0, "", "NOISE")]))["worst"][0]
    assert (worst["id"], worst["WER"], worst["words"], worst["errors"]) == ("64-1-1", None, 0, 1)


def test_with_a_normalizer_its_errors_are_shown(tmp_path):
    """Raw, every word of these would be wrong."""
    speech = [("a", 1.0, "That man painted.", "THAT MAN PAINTED"), ("b", 1.0, "The floor.", "THE DOOR")]
    found = details_of(make_results(tmp_path, speech, normalize_text="basic"))
    assert [each["id"] for each in found["worst"]] == ["b"]
    assert found["worst"][0]["edits"] == [["equal", "the", "the"], ["substitute", "floor", "door"]]
    assert found["confusions"] == [{"reference": "floor", "hypothesis": "door", "count": 1}]
    assert sum(bar["errors"] for bar in found["WER by length"]) == 1


LATENCIES = [Latency(10 * (key + 1), 20 * (key + 1)) for key in range(len(SPEECH))]


def test_latencies_are_those_of_the_journal_after_the_warm_up(tmp_path):
    found = details_of(make_results(tmp_path, journal=LATENCIES, warm_up=1, padded=True))
    by_length = found["latency by length"]
    assert by_length["points"] == [[1.9, 20], [2.0, 30], [4.0, 50], [4.1, 60], [12.5, 40]]
    assert (by_length["of"], by_length["latency of"]) == (5, "an utterance")
    assert by_length["gears (s)"] == [1, 2, 4, 5, 13]
    assert sum(found["latency histogram"]["counts"]) == 5


def test_an_unpadded_run_has_no_gears(tmp_path):
    assert "gears (s)" not in details_of(make_results(tmp_path, journal=LATENCIES, padded=False))["latency by length"]


def test_side_by_side_the_elapsed_time_is_the_latency(tmp_path):
    journal = [latency._replace(elapsed_ms=100 + latency.pure_ms) for latency in LATENCIES]
    points = details_of(make_results(tmp_path, journal=journal))["latency by length"]["points"]
    assert [ms for _, ms in sorted(points)] == [110, 120, 130, 150, 160, 140]


def test_without_a_journal_the_times_are_those_of_the_utterances(tmp_path):
    points = details_of(make_results(tmp_path, warm_up=2))["latency by length"]["points"]
    assert sorted(points) == [[2.0, 250], [4.0, 250], [4.1, 250], [12.5, 250]]


def test_unknown_times_are_left_out(tmp_path):
    found = details_of(make_results(tmp_path, pure_s=None))
    assert not {"latency by length", "latency histogram"} & set(found)


def test_the_points_are_drawn_evenly(tmp_path):
    speech = [(f"u{key}", 1 + key / 100, "A", "A") for key in range(2 * details.MOST_POINTS)]
    by_length = details_of(make_results(tmp_path, speech))["latency by length"]
    assert (len(by_length["points"]), by_length["of"]) == (details.MOST_POINTS, len(speech))
    lengths = [seconds for seconds, _ in by_length["points"]]
    assert (lengths[0], lengths[-1]) == (1, speech[-1][1]) and max(np.diff(lengths)) <= 0.031


@pytest.mark.parametrize("values", [[1.0, 2, 4, 1000], [5.0, 5, 5], [0.0, 1], [3.0], [1e-9, 1e9]])
def test_a_histogram_holds_every_value(values):
    found = details.histogram(np.array(values))
    assert sum(found["counts"]) == len(values)
    assert len(found["edges (ms)"]) == len(found["counts"]) + 1
    assert found["edges (ms)"] == sorted(found["edges (ms)"])


def test_the_time_of_a_run_is_split():
    times = summarise([Latency(10, 15)] * 4)
    assert details.time_shares(times) == {"wall (s)": 0.06, "computing (s)": 0.04}
    more = {f"{name}(ms)": 2.0 for name in ("reading", "writing", "waiting for inputs", "waiting for writing")}
    assert details.time_shares({**times, **more})["waiting for inputs (s)"] == 0.002
    assert details.time_shares(summarise([Latency(10, None)])) == {}


def test_nothing_is_wrong(tmp_path):
    found = details_of(make_results(tmp_path, [("61-1-0", 1.0, "A", "A"), ("61-1-1", 1.0, "B", "B")]))
    assert not {"worst", "confusions"} & set(found)
    assert found["WER by length"][0]["WER"] == 0


def test_nothing_is_scored(tmp_path):
    found = details_of(make_results(tmp_path, [("61-1-0", 1.0, None, "A")]))
    assert not {"worst", "confusions", "WER by length"} & set(found)
    assert found["latency by length"]["points"] == [[1.0, 250]]


def test_pairs_are_counted():
    generator = np.random.default_rng(0)
    first, second = generator.integers(-3, 4, 500), generator.integers(0, 4, 500)
    assert details.count(first, second) == Counter(zip(first.tolist(), second.tolist()))


def test_a_journal_of_other_utterances_is_refused(tmp_path):
    source = make_results(tmp_path, journal=LATENCIES)
    with output_folder(tmp_path, "pyacl_infer.py") as out:
        out.write_text("results.tsv", HEADER)
    with pytest.raises(SuiteError, match="results: expected 6 keys, found 0"):
        details_of(Source(source.folder))
