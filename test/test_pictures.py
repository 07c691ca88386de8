# SPDX-License-Identifier: Apache-2.0
"""Proves that the report's pictures are part of its page: colours, fonts, names, numbers, and escaped texts."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest

from wav2vec2_eval.report.pictures import MARKERS, draw

from conftest import ROOT
from example_summary import GEARS_S, RUNS, example_summary

NAMES = ["wer-by-length", "wer-by-speaker", "latency-by-length", "latency-histogram", "rtfx", "time"]
# As in the style sheet of the page, light and dark.
TEMPLATE = (ROOT / "wav2vec2_eval/report/page.html.j2").read_text(encoding="utf-8")
SCHEMES = [
    dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))
    for block in re.findall(r":root \{(.*?)\}", TEMPLATE, re.DOTALL)
]


@pytest.fixture(scope="module")
def pictures():
    return {picture.name: picture for picture in draw(example_summary())}


def texts(picture):
    return "".join(ElementTree.fromstring(with_names(picture.svg)).itertext())


def with_names(svg):
    """As a document of its own; HTML knows the names without their declaration."""
    return svg.replace("<svg ", '<svg xmlns:xlink="http://www.w3.org/1999/xlink" ', 1)


def numbers(picture):
    return [cell for table in picture.numbers for row in table.rows for cell in row]


def test_all_pictures(pictures):
    assert list(pictures) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_belongs_to_the_page(pictures, name):
    """Its colours are the page's, so that dark mode and print change them, too; so are its fonts."""
    svg = pictures[name].svg
    assert not re.search(r"#[0-9a-fA-F]{6}|rgb\(|font-family|font: |<style|<metadata|<!--|<\?xml", svg)
    variables = set(re.findall(r"var\(--([\w-]+)\)", svg))
    assert {"text", "line", "muted"} & variables and variables <= set(SCHEMES[0])
    assert {"run-0", "run-1", "run-2"} <= variables


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_has_a_name_and_its_ids_are_its_own(pictures, name):
    svg = pictures[name].svg
    assert f'role="img" aria-labelledby="{name}-title {name}-about"' in svg
    ids = re.findall(r' id="([^"]*)"', svg)
    assert len(ids) == len(set(ids)) and all(each.startswith(f"{name}-") for each in ids)
    assert set(re.findall(r'(?:href="|url\()#([\w-]+)', svg)) == set(ids)


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("wer-by-length", ["length of the utterance (s)", "WER (%)"]),
        ("wer-by-speaker", ["speaker", "WER (%)", "9001"]),
        ("latency-by-length", ["length of the speech in it (s)", "latency (ms)", *RUNS]),
        ("latency-histogram", ["latency (ms), logarithmic", "number", "p50", "p99", *RUNS]),
        ("rtfx", ["RTFx (seconds of speech per second)", "97.5", "71.9 wall", *RUNS]),
        (
            "time",
            ["wall time of the run (s)", "computing", "waiting for inputs", "waiting for writing", "the rest", *RUNS],
        ),
    ],
)
def test_axes_have_labels_with_units(pictures, name, labels):
    found = texts(pictures[name])
    assert [label for label in labels if label not in found] == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("wer-by-length", ["0\N{EN DASH}2", "8\N{EN DASH}10"]),
        ("wer-by-speaker", ["9001", "9.23\u202f%", "130"]),
        ("latency-histogram", []),
        ("rtfx", [*RUNS, "97.5", "174.3"]),
        ("time", [*RUNS, "6.20", "4.59", ""]),
    ],
)
def test_its_numbers_are_beside_it(pictures, name, expected):
    found = numbers(pictures[name])
    assert found and [each for each in expected if each not in found] == []


def test_latencies_are_dots_and_lines(pictures):
    """Each point is drawn, and listed; gears are lines of the runs that have them."""
    picture = pictures["latency-by-length"]
    paths = re.findall(r'<path d="([^"]*)"[^>]*stroke-linecap: round', picture.svg)
    assert [path.count("M") for path in paths if path.count("M") > 9] == [52, 52, 52]
    assert [table.lines.count("\n") + 1 for table in picture.numbers] == [52, 52, 52]
    assert [table.caption for table in picture.numbers] == [f"{title}: 52 of 52" for title in RUNS]
    vertical = re.findall(
        r"M ([\d.]+) [\d.]+\s+L \1 [\d.]+\s+\" clip-path=\"[^\"]*\" style=\"fill: none; stroke: var\(--line\)",
        picture.svg,
    )
    assert len(vertical) == 2 * len(GEARS_S)
    assert "gear" in picture.description


def test_without_gears_nothing_is_said_of_them():
    assert "gear" not in next(each for each in draw(example_summary(1)) if each.name == "latency-by-length").description


def test_of_many_points_the_picture_shows_some_and_stays_small():
    picture = next(each for each in draw(example_summary(9, 1500)) if each.name == "latency-by-length")
    assert picture.svg.count("h0") + picture.svg.count("L ") < 13_500 and len(picture.svg) < 300_000


HOSTILE = "</text></svg><script>alert(1)</script>-->]]>&$x_1$\\frac{%"


def test_texts_cannot_leave_the_picture():
    summary = example_summary(1)
    for name in ("figures", "details"):
        summary[name] = {HOSTILE: summary[name][RUNS[0]]}
    summary["details"][HOSTILE]["WER by speaker"][0]["speaker"] = HOSTILE
    summary["details"][HOSTILE]["latency by length"]["latency of"] = HOSTILE
    for picture in draw(summary):
        assert "<script" not in picture.svg and picture.svg.count("</svg>") == 1
        ElementTree.fromstring(with_names(picture.svg))
        if picture.name == "rtfx":
            assert "</text></svg><script>" in texts(picture)
        if picture.name == "wer-by-speaker":
            assert "</text></svg><s…" in texts(picture)


@pytest.mark.parametrize("title", ["长" * 30, "x" * 500, "two\nlines\tof text", "", "\u202eright to left", "📈"])
def test_unusual_titles_are_drawn_without_warnings(title, recwarn):
    summary = example_summary(1)
    for name in ("figures", "details"):
        summary[name] = {title: summary[name][RUNS[0]]}
    drawn = draw(summary)
    assert [picture.name for picture in drawn] == NAMES and not recwarn.list
    assert max(len(line) for line in texts(drawn[-1]).splitlines()) <= 50


@pytest.mark.parametrize(
    ("details", "names"),
    [
        ({}, []),
        ({"WER by length": [], "WER by speaker": [], "latency by length": {}, "latency histogram": {}, "time": {}}, []),
        ({"WER by length": [{"from (s)": 0, "to (s)": 5, "words": 0, "errors": 0, "utterances": 1, "WER": None}]}, []),
        ({"latency by length": {"points": []}, "latency histogram": {"edges (ms)": [1, 2], "counts": [0]}}, []),
        ({"latency by length": {"points": [[0.0, 0.0]]}}, ["latency-by-length"]),
        ({"latency by length": {"points": [[1.0, 5.0]]}}, ["latency-by-length"]),
        ({"latency histogram": {"edges (ms)": [0, 10], "counts": [1]}}, ["latency-histogram"]),
        ({"time": {"wall (s)": 2.0}}, ["time"]),
        (
            {"time": {"wall (s)": 2.0, "computing (s)": 3.0}},
            ["time"],
        ),  # several at once compute longer than the wall time
        ({"time": {"wall (s)": 0.0}}, []),
        (
            {"WER by speaker": [{"speaker": "x", "utterances": 1, "words": 1, "errors": 0, "WER": 0.0}]},
            ["wer-by-speaker"],
        ),
    ],
)
def test_a_summary_with_little_in_it(details, names, recwarn):
    assert [each.name for each in draw({"figures": {"a run": {}}, "details": {"a run": details}})] == names
    assert not recwarn.list


def test_the_same_numbers_give_the_same_pictures(pictures):
    """In another process, too, whatever the user's settings of matplotlib are."""
    program = (
        "import matplotlib; matplotlib.rcParams.update({'font.size': 30, 'axes.grid': True, 'lines.linewidth': 9})\n"
        "from example_summary import example_summary; from wav2vec2_eval.report.pictures import draw\n"
        "print(''.join(each.svg for each in draw(example_summary())))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'test'}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "".join(each.svg for each in pictures.values())


def luminance(colour):
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", SCHEMES, ids=["light", "dark"])
def test_colours_can_be_seen(scheme):
    """The contrasts that WCAG 2 asks for at level AA: 4.5 for text, 3 for what is drawn."""
    for name in ("text", "muted", "link", "insert", "delete", "substitute"):
        assert contrast(scheme[name], scheme["page"]) >= 4.5, name
    for place in range(len(MARKERS)):
        assert contrast(scheme[f"run-{place}"], scheme["page"]) >= 3, place
    assert f"run-{len(MARKERS)}" not in scheme and f'id="marker-{len(MARKERS) - 1}"' in TEMPLATE


@pytest.mark.parametrize(("factor", "is_logarithmic"), [(1, False), (100, True)])
def test_latencies_of_very_different_runs_have_a_logarithmic_axis(factor, is_logarithmic):
    summary = example_summary(2)
    for point in summary["details"][RUNS[0]]["latency by length"]["points"]:
        point[1] *= factor
    picture = next(each for each in draw(summary) if each.name == "latency-by-length")
    assert ("latency (ms), logarithmic" in texts(picture)) == is_logarithmic
    assert ("10,000" in texts(picture)) == is_logarithmic
