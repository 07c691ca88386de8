# SPDX-License-Identifier: Apache-2.0
"""Proves that the page says what summary.json says, and nothing else, and that texts stay texts."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest
from page_data import TITLES, make_summary

from wav2vec2_eval.report import page

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Reader(HTMLParser):
    """Reads a page: its text, its elements, and whether every element is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "svg"} & set(self.open):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def values(self, attribute: str) -> list[str]:
        return [value for _, attributes in self.elements if (value := attributes.get(attribute)) is not None]


def test_the_page_has_everything():
    found = Reader(page.render(make_summary())).text
    for expected in (
        "Speech recognition: clean",
        "52 utterances, 526 words; compared with PyTorch float32",
        "WER 3.99 % (21 of 526 words), RTFx 195.3, p50 15.51 ms, p99 69.21 ms",
        "95 %: 1.98 to 6.11",
        "-0.38 95 %: -1.19 to +0.21, better with p = 0.771",
        "The columns differ in: engine.",
        "7 \N{MULTIPLICATION SIGN} ALL → CALL",
        "WER 75.00 %, 3 errors in 4 words, 1.45 s",
        "THE CAT SAT → SET ON MAT",
        *TITLES,
    ):
        assert expected in found, expected
    for title in (
        "WER by length",
        "WER by speaker",
        "Latency by length",
        "Latencies",
        "Speed",
        "What the time went into",
    ):
        assert title in found


def numbers_in(value) -> set[float]:
    """Every number in a JSON value, also in its keys and texts."""
    if isinstance(value, dict):
        return set().union(*map(numbers_in, value.items()))
    if isinstance(value, (list, tuple)):
        return set().union(*map(numbers_in, value))
    if isinstance(value, str):
        return {float(each) for each in re.findall(r"\d+(?:\.\d+)?", value)}
    return set() if value is None else {abs(float(value))}


# Numbers of the page that are no results: of the explanations, and of the levels that they name.
EXPLAINED = {0, 10_000, 95, 50, 99, 90, 40, 1000, 100}


def test_every_number_of_the_page_is_in_the_json():
    summary = json.loads(json.dumps(make_summary()))
    known = numbers_in(summary)
    shown = set()
    for number in known:  # as the page writes them: rounded, or as percent
        shown |= {round(number, digits) for digits in range(4)}
        shown |= {round(100 * number, 2)}
    shown |= {21, 22, 23, 0.017}  # sums: all errors; what is left of the time
    text = re.sub(r"(?<=\d)[,\N{NARROW NO-BREAK SPACE}](?=\d{3})", "", Reader(page.render(summary)).text)
    for found in re.findall(r"(?<![\w.-])\d+(?:\.\d+)?(?![\w.])", text):
        assert float(found) in shown | EXPLAINED, found


EVIL = '<script>alert("x")</script>&amp;\'"><img src=x onerror=alert(1)>]]>-->$a_b$'


def replaced(value, old, new):
    return json.loads(json.dumps(value).replace(json.dumps(old)[1:-1], json.dumps(new)[1:-1]))


@pytest.mark.parametrize("old", ["SAT", "ALL", "61-1-0000", "clean", "OpenVINO int8", "engine 1", "4077", "engine"])
def test_texts_stay_texts(old):
    """Transcripts, ids, names and conditions, also in the pictures."""
    html = page.render(replaced(make_summary(), old, EVIL), {EVIL: b"fLaC"})
    reader = Reader(html)
    assert not {"script", "img"} & {tag for tag, _ in reader.elements}
    assert not [name for _, attributes in reader.elements for name in attributes if name.startswith("on")]
    assert EVIL in reader.text or old == "4077"  # a speaker is in the numbers of a picture
    assert "<script" not in html


def test_nothing_comes_from_elsewhere():
    reader = Reader(page.render(make_summary(), {"61-1-0000": b"fLaC"}))
    ids = reader.values("id")
    assert len(ids) == len(set(ids))
    for attribute in ("src", "href", "xlink:href"):
        for value in reader.values(attribute):
            assert value.startswith(("data:", "#")), value
            if value.startswith("#"):
                assert value[1:] in ids, value
    html = page.render(make_summary())
    assert "@import" not in html and not re.findall(r"url\((?!#)", html)
    assert set(re.findall(r"https?://[^\"' )]+", html)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }


def test_a_recording_is_embedded_once():
    """Other columns lead to the player of the first one."""
    html = page.render(make_summary(), {"61-1-0000": b"fLaC...."})
    assert html.count("<audio") == html.count("data:audio/flac;base64,ZkxhQy4uLi4=") == 1
    assert html.count('<a href="#player1">listen</a>') == 2


def without(summary, *names):
    for name in names:
        for each in summary["details"].values():
            each.pop(name)
    return summary


@pytest.mark.parametrize(
    ("name", "heading"),
    [
        ("WER by length", "WER by length"),
        ("WER by speaker", "WER by speaker"),
        ("latency by length", "Latency by length"),
        ("latency histogram", "Latencies"),
        ("time", "What the time went into"),
        ("confusions", "Most frequent"),
        ("worst", "Utterances with the highest WER"),
    ],
)
def test_what_is_not_known_is_left_out(name, heading):
    assert heading in Reader(page.render(make_summary())).text
    assert heading not in Reader(page.render(without(make_summary(), name))).text


def test_a_single_column_is_compared_with_nothing():
    text = Reader(page.render(make_summary(("PyTorch float32",)))).text
    assert "compared with" not in text and "difference" not in text and "differ" not in text


def test_recordings_without_references():
    summary = without(make_summary(), "WER by length", "WER by speaker", "confusions", "worst")
    summary["comparisons"] = {}
    for figures in summary["figures"].values():
        for name in [name for name in figures if name.startswith(("WER", "CER"))]:
            del figures[name]
        for name in ("substitutions", "deletions", "insertions", "words"):
            del figures[name]
    text = Reader(page.render(summary)).text
    assert "WER" not in text.replace("WER difference", "")
    assert "52 utterances;" in text


def test_a_folder_without_details_has_a_column_alone():
    summary = make_summary()
    summary["details"] = {}
    text = Reader(page.render(summary)).text
    assert "Speed" in text and "Errors of" not in text and "Latencies" not in text


def test_a_rate_without_words_is_infinite():
    summary = make_summary()
    summary["details"][TITLES[0]]["worst"][0]["WER"] = None
    assert "WER ∞, 3 errors" in Reader(page.render(summary)).text


@pytest.mark.parametrize("number", [2, 8, 11])
def test_any_number_of_columns_makes_a_small_page(number):
    summary = make_summary(tuple(f"engine with a long name, number {position}" for position in range(number)))
    for each in summary["details"].values():
        each["latency by length"]["points"] = [[0.5 + key / 50, 5.25 + key % 17] for key in range(1500)]
        each["latency by length"]["gears (s)"] = [0.625 * key for key in range(1, 57)]
        each["worst"] *= 5
    html = page.render(summary)
    Reader(html)
    assert len(html.encode()) < 1_000_000


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "0"),
        (526, "526"),
        (281_241, "281\N{NARROW NO-BREAK SPACE}241"),
        (0.5567, "0.557"),
        (15.114, "15.11"),
        (195.26, "195.3"),
        (0.0, "0.000"),
        (-0.5, "-0.500"),
    ],
)
def test_numbers_are_written_for_readers(value, expected):
    assert page.number(value) == expected


def test_every_row_has_a_meaning():
    for row in page.table_rows(make_summary()):
        assert row.meaning, row.label


def test_the_same_numbers_make_the_same_page():
    assert page.render(make_summary()) == page.render(make_summary())
