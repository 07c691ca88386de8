# SPDX-License-Identifier: Apache-2.0
"""Proves that each picture is a well-formed SVG with all columns, in the page's colours, whatever its numbers are."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from page_data import TITLES, details, figures

from wav2vec2_eval.report import pictures
from wav2vec2_eval.report.page import time_parts

SVG = "{http://www.w3.org/2000/svg}"


def numbers(name):
    return {title: details(position)[name] for position, title in enumerate(TITLES)}


PICTURES = {
    pictures.wer_by_length: numbers("WER by length"),
    pictures.wer_by_speaker: numbers("WER by speaker"),
    pictures.latency_by_length: numbers("latency by length"),
    pictures.latency_histogram: numbers("latency histogram"),
    pictures.rtfx_bars: {title: figures(position) for position, title in enumerate(TITLES)},
    pictures.time_bars: {title: time_parts(each) for title, each in numbers("time").items()},
}
PICTURES[pictures.rtfx_bars] = {
    title: {name: each[name] for name in ("RTFx", "wall RTFx")} for title, each in PICTURES[pictures.rtfx_bars].items()
}
each_picture = pytest.mark.parametrize("draw", PICTURES, ids=lambda draw: draw.__name__)


def parse(svg: str) -> ElementTree.Element:
    root = ElementTree.fromstring(svg)
    assert root.tag == f"{SVG}svg" and root.get("role") == "img"
    return root


def texts(svg: str) -> list[str]:
    return ["".join(each.itertext()).strip() for each in parse(svg).iter(f"{SVG}text")]


@each_picture
def test_a_picture_names_its_columns_and_axes(draw):
    svg = draw(PICTURES[draw], TITLES, "a name")
    found = texts(svg)
    for title in TITLES:
        assert title in found
    assert [text for text in found if re.search(r"\((s|ms|%)\)|seconds|%|speaker", text)]
    assert parse(svg).get("aria-label") == "a name"


@each_picture
def test_a_picture_has_the_colours_of_the_page(draw):
    svg = draw(PICTURES[draw], TITLES, "a name")
    assert "var(--ink)" in svg and "var(--line)" in svg
    assert not re.findall(r"#0[0-9a-f]0[0-9a-f]{3}", svg)  # a colour that stands for another
    if draw is not pictures.time_bars:
        for position in range(len(TITLES)):
            assert f"var(--c{position})" in svg
    assert "font-family" not in svg and "font:" not in svg


@each_picture
def test_a_missing_column_leaves_the_colours_of_the_others(draw):
    last = {TITLES[2]: PICTURES[draw][TITLES[2]]}
    svg = draw(last, TITLES, "a name")
    assert TITLES[2] in texts(svg) and TITLES[0] not in texts(svg)
    if draw is not pictures.time_bars:
        assert "var(--c2)" in svg and "var(--c0)" not in svg


@each_picture
def test_ids_of_two_pictures_differ(draw):
    one, other = (set(re.findall(r'\bid="([^"]+)"', draw(PICTURES[draw], TITLES, name))) for name in ("One", "Other"))
    assert one and not one & other
    referred = re.findall(r'(?:href="#|url\(#)([^")]+)', draw(PICTURES[draw], TITLES, "One"))
    assert set(referred) <= one


@each_picture
@pytest.mark.parametrize("title", ["<b>&amp;\"'", "$x^2$", "很长的名字" * 20, "a\\b"])
def test_titles_stay_texts(draw, title):
    svg = draw({title: PICTURES[draw][TITLES[0]]}, [title], "a name")
    assert any(title.startswith(text.rstrip("…")) for text in texts(svg) if text)


@pytest.mark.parametrize(
    ("draw", "column"),
    [
        (pictures.wer_by_length, [{"from (s)": 0.0, "to (s)": 1.0, "WER": 0.0}]),
        (pictures.wer_by_length, [{"from (s)": 0.0, "to (s)": 1.0, "WER": None}]),
        (pictures.wer_by_speaker, [{"speaker": "1", "WER": 3.5}]),
        (pictures.latency_by_length, {"points": [[0.025, 0.0]]}),
        (pictures.latency_by_length, {"points": []}),
        (pictures.latency_histogram, {"edges (ms)": [0.0, 0.5, 1.0], "counts": [1, 0]}),
        (pictures.latency_histogram, {"edges (ms)": [1e-6, 1.0, 1e6], "counts": [1, 1]}),
        (pictures.rtfx_bars, {"RTFx": 1e-4}),
        (pictures.time_bars, {"wall (s)": 1e-9, "computing (s)": 2e-9}),
    ],
)
def test_extreme_numbers_are_drawn(draw, column):
    parse(draw({"a": column}, ["a"], "a name"))


def test_many_points_are_thinned_out():
    points = [[key / 10, 1.0] for key in range(5000)]
    columns = {str(position): {"points": points} for position in range(8)}
    svg = pictures.latency_by_length(columns, list(columns), "a name")
    assert svg.count("<use") < 1.2 * pictures.MOST_POINTS
