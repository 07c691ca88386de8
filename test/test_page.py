# SPDX-License-Identifier: Apache-2.0
"""Proves that the report's page shows what summary.json holds, and nothing else: whole, escaped, and small."""

from __future__ import annotations

import copy
import json
import math
import re
from html.parser import HTMLParser

import pytest

from wav2vec2_eval.report import page
from wav2vec2_eval.report.figures import show
from wav2vec2_eval.report.page import MOST_AUDIO, MOST_PLAYERS, render

from example_summary import RUNS, example_summary, recording

HOSTILE = "<script>alert(1)</script></svg></title>\"'&{{ 7*7 }}$x_1$-->\u202e\x00"
VOID = {"meta", "link", "br"}


class Reader(HTMLParser):
    """The page as a tree is walked: tags, attributes, and texts with the classes of the elements around them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[tuple[str, dict[str, str | None]]] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[list[tuple[str, dict[str, str | None]]], str]] = []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append((tag, dict(attrs)))

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag, f"{tag} at {self.getpos()}"

    def handle_data(self, data):
        self.texts.append((list(self.open), data))

    def text(self, *without: str) -> str:
        """All texts but those in elements with these names or classes."""
        kept = []
        for around, text in self.texts:
            names = {tag for tag, _ in around} | {
                name for _, each in around for name in (each.get("class") or "").split()
            }
            if not names & {"style", *without}:
                kept.append(text)
        return " ".join(" ".join(kept).split())


@pytest.fixture
def without_pictures(monkeypatch):
    """Drawing takes most of the time."""
    monkeypatch.setattr(page, "draw", lambda _: [])


def numbers_in(value):
    """Every number of the JSON, also those in its texts."""
    if isinstance(value, dict):
        return {number for each in (*value, *value.values()) for number in numbers_in(each)}
    if isinstance(value, list):
        return {number for each in value for number in numbers_in(each)}
    if isinstance(value, str):
        return {float(each) for each in re.findall(r"\d+(?:\.\d+)?", value)}
    return {abs(float(value))} if isinstance(value, (int, float)) else set()


def test_every_number_is_in_the_json():
    """As it is, rounded to the decimals that are shown, or in percent. Pictures and the glossary are not read."""
    summary = json.loads(json.dumps(example_summary()))
    text = Reader(render(summary)).text("svg", "glossary").replace("95 %", "")
    known = {scaled for number in numbers_in(summary) for scaled in (number, 100 * number)}
    shown = re.findall(r"\d[\d,]*(?:\.\d+)?", text)
    assert len(shown) > 500
    for each in shown:
        decimals = len(each.partition(".")[2])
        number = float(each.replace(",", ""))
        tolerance = 0.5000001 * 10.0**-decimals if decimals or number >= 100 else 0  # small counts are exact
        assert any(abs(number - value) <= tolerance for value in known), f"{each} is not in the JSON"


def test_the_figures_of_the_demo():
    text = Reader(render(example_summary())).text()
    for expected in (
        "52 utterances, 526 words",
        "WER 3.99\u202f% of 526 words (95 % interval 2.42 to 5.81\u202f%); RTFx 97.5; wall RTFx 71.9",
        "WER +1.33\u202fpoints against PyTorch float32 (95 % interval +0.21 to +2.62\u202fpoints): more errors than",
        "these utterances do not show which of the two is better",
        "\N{MULTIPLICATION SIGN}0.413",
        "+A",
        "nothing: left out",
    ):
        assert expected.replace("\u202f", " ") in text, expected


@pytest.mark.parametrize(
    ("place", "label", "value", "shown"),
    [
        (0, "WER", None, "WER ∞"),
        (0, "WER", math.inf, "WER ∞"),
        (0, "RTFx", 123456.7, "RTFx 123,457"),
        (1, "p50 latency (ms)", 0.01234, "p50 latency 0.0123\u202fms"),
        (2, "words", 1234567, "of 1,234,567 words"),
        (0, "a new figure (ms)", 12.3456, "a new figure 12.3\u202fms"),
    ],
)
def test_an_unusual_figure(without_pictures, place, label, value, shown):
    summary = example_summary()
    summary["figures"][RUNS[place]][label] = value
    assert shown.replace("\u202f", " ") in Reader(render(summary)).text()


@pytest.mark.parametrize(
    ("values", "unit", "expected"),
    [
        ([0.0399], "%", ["3.99\u202f%"]),
        ([-0.0038, 0.5], "points", ["\N{MINUS SIGN}0.38\u202fpoints", "50.00\u202fpoints"]),
        ([30.14, 1470.51], "ms", ["30.1\u202fms", "1,470.5\u202fms"]),
        ([52, 300000], "", ["52", "300,000"]),
        ([-1e-9, 0.0], "%", ["0.00\u202f%", "0.00\u202f%"]),
        ([0.0], "", ["0.00"]),
        ([1e-12], "", ["0.000000"]),
        (["", None, math.nan], "", ["", "∞", "\N{EN DASH}"]),
        ([], "", []),
    ],
)
def test_numbers_are_shown_with_their_units(values, unit, expected):
    assert show(values, unit) == expected


def everywhere(value, text):
    """The summary, with `text` in place of all texts that come from users."""
    if isinstance(value, dict):
        return {key: everywhere(each, text) for key, each in value.items()}
    if isinstance(value, list):
        return [everywhere(each, text) for each in value]
    return text if isinstance(value, str) and value not in ("equal", "substitute", "insert", "delete") else value


def test_a_transcript_with_a_script_shows_as_text():
    summary = example_summary(2)
    hostile = [HOSTILE, f"{HOSTILE}2"]
    summary["details"] = everywhere(summary["details"], HOSTILE)
    summary["conditions"] = everywhere(summary["conditions"], HOSTILE)
    for name in ("figures", "conditions", "details", "ratios", "comparisons"):
        summary[name] = {hostile[RUNS.index(title)]: each for title, each in summary[name].items()}
    for each in summary["conditions"].values():
        each[HOSTILE] = HOSTILE
    summary |= {
        "reference": hostile[0],
        "data set": HOSTILE,
        "differing conditions": [HOSTILE],
        "made on": {HOSTILE: HOSTILE},
    }
    text = render(summary, {HOSTILE: recording(0.1)})
    reader = Reader(text)
    assert {tag for tag, _ in reader.elements} & {"script", "iframe", "img", "object"} == set()
    assert not [name for _, each in reader.elements for name in each if name.startswith("on")]
    assert "{{ 7*7 }}" in reader.text()
    for parts in ("title", "svg", "td", "dd", "dt", "strong", "ins", "del", "figcaption", "footer"):
        assert any(parts in dict(around) and "<script>" in data for around, data in reader.texts), parts
    assert len(re.findall("<svg", text)) == len(re.findall("</svg>", text))


@pytest.mark.parametrize("num_runs", [1, 2, 3, 8, 11])
def test_ids_and_links(num_runs):
    """Each id is there once, and every link leads to one."""
    elements = Reader(render(example_summary(num_runs))).elements
    ids = [each["id"] for _, each in elements if "id" in each]
    assert len(ids) == len(set(ids))
    links = {
        each[name][1:] for _, each in elements for name in ("href", "xlink:href") if each.get(name, "").startswith("#")
    }
    labelled = {label for _, each in elements for label in (each.get("aria-labelledby") or "").split()}
    assert (links | labelled) - set(ids) == set()
    assert {f"run-{place}" for place in range(num_runs)} <= links & set(ids)


def test_a_page_needs_nothing_else():
    text = render(example_summary(), {"9001-120-0000": recording(0.5)})
    sources = re.findall(r'(?:src|href|action|data)="([^"]*)"|url\(([^)]*)\)|@import', text)
    assert sources and all((one or other).startswith(("#", "data:")) for one, other in sources)


PARTS = ("WER by length", "WER by speaker", "latency by length", "latency histogram", "time", "confusions", "worst")


@pytest.fixture(scope="module")
def complete():
    """The length of a page that has everything."""
    return len(render(example_summary(2)))


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("is_there", [True, False])
def test_a_part_that_is_empty_or_missing_is_left_out(part, is_there, complete):
    summary = example_summary(2)
    for each in summary["details"].values():
        each[part] = type(each[part])()
        if not is_there:
            del each[part]
    assert len(render(summary)) < complete


def test_a_run_without_details(complete):
    summary = example_summary(2)
    del summary["details"][RUNS[1]]
    assert len(render(summary)) < complete


KEYS = ("data set", "reference", "conditions", "differing conditions", "ratios", "comparisons", "made on", "details")


@pytest.mark.parametrize("key", KEYS)
def test_a_key_that_is_missing(key):
    summary = example_summary()
    del summary[key]
    if key == "reference":
        del summary["comparisons"]
    assert "RTFx 97.5" in Reader(render(summary)).text()


def test_nothing_at_all():
    for summary in ({}, {"figures": {}}, {"figures": {"a run": {}}}, {"figures": {"a run": {"RTFx": 0.0}}}):
        assert "not known" in Reader(render(summary)).text()


def test_one_run_has_nothing_to_compare():
    text = Reader(render(example_summary(1))).text("glossary")
    assert "reference" not in text.replace("in the references", "") and "\N{MULTIPLICATION SIGN}" not in text


def test_unscored_runs_have_no_scores():
    text = Reader(render(example_summary(3, scored=False))).text()
    assert not re.search(r"\b(WER|CER|substitutions|worst|confusions)\b", text)
    assert "RTFx 97.5" in text


def test_unusual_details():
    summary = example_summary(2)
    details = summary["details"][RUNS[0]]
    for part in ("WER by length", "WER by speaker", "worst"):
        details[part][0]["WER"] = None
    del details["WER by length"][1]["WER 95% low"], details["WER by length"][1]["WER 95% high"]
    details["worst"][0] |= {"seconds": None, "id": "x" * 300, "edits": []}
    details["worst"][1]["edits"] = [["insert", "", "y" * 500], ["delete", "z" * 500, ""]]
    details["latency histogram"] = {"edges (ms)": [5.0, 5.0, 6.0], "counts": [0, 1]}
    details["latency by length"]["points"] = [[0.0, 0.0]]
    text = Reader(render(summary)).text()
    assert "WER ∞" in text and "x" * 300 in text and "y" * 500 in text


def test_a_recording_is_there_once_and_at_most_ten(without_pictures):
    summary = example_summary(2)
    ids = [each["id"] for each in summary["details"][RUNS[0]]["worst"]]
    summary["details"][RUNS[1]]["worst"] = copy.deepcopy(summary["details"][RUNS[0]]["worst"])
    elements = Reader(render(summary, {each: recording(0.1) for each in [*ids, "another"]})).elements
    players = [each["id"] for tag, each in elements if tag == "audio"]
    assert len(players) == MOST_PLAYERS
    assert [each["href"] for tag, each in elements if tag == "a" and each.get("class") == "heard"] == [
        f"#{player}" for player in players
    ]


def test_no_more_recordings_than_there_is_room_for(monkeypatch):
    flac = recording(15)
    assert 200_000 < len(flac) < 300_000
    summary = example_summary(8, 1500)
    players = {each["id"]: flac for each in summary["details"][RUNS[0]]["worst"]}
    drawn = page.draw(summary)
    monkeypatch.setattr(page, "draw", lambda _: drawn)  # the pictures are the same
    without, complete = (len(render(summary, each).encode()) for each in ({}, players))
    assert without < 700_000
    assert complete < 3_000_000
    assert complete - without < MOST_AUDIO * 4 / 3 + 10_000


def test_the_same_summary_gives_the_same_page():
    assert render(example_summary(2)) == render(example_summary(2))


def test_long_texts_are_cut():
    """Otherwise the texts of a few recordings of an hour would make the page larger than 3 MB."""
    summary = example_summary()
    for details in summary["details"].values():
        for utterance in details["worst"]:
            utterance["edits"] = [["equal", "WORD " * 20_000, "WORD " * 20_000], ["insert", "", "A"]] * 500
    html = render(summary)
    assert len(html) < 1_000_000
    assert "… 99,400 characters …" in html and "… and 994 more parts" in html
