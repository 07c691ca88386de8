# SPDX-License-Identifier: Apache-2.0
"""Opens the page in headless Chromium, without a network: no message, nothing that sticks out, players that play.

Skipped where there is no Chromium, or no playwright.
"""

from __future__ import annotations

import io
import shutil

import numpy as np
import pytest
import soundfile
from page_data import make_summary

from wav2vec2_eval.report.page import render

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH")
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
OVERFLOWING = """() => [...document.body.querySelectorAll("*")]
    .filter(each => !each.closest(".scroll") && each.getBoundingClientRect().right > innerWidth + 0.5)
    .map(each => each.outerHTML.slice(0, 80))"""
UNREADABLE = """() => [...document.querySelectorAll("svg.picture text")]
    .filter(each => each.getBoundingClientRect().height < 8).map(each => each.textContent)"""


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


def flac(seconds):
    file = io.BytesIO()
    soundfile.write(file, np.zeros(int(seconds * 16_000), np.float32), 16_000, format="FLAC", subtype="PCM_16")
    return file.getvalue()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_in_a_browser(browser, tmp_path, width, scheme):
    summary = make_summary()
    long = "A" * 300
    summary["details"]["OpenVINO int8"]["worst"][1] |= {"id": long, "edits": [["substitute", long, long]]}
    path = tmp_path / "report.html"
    path.write_text(render(summary, {"61-1-0000": flac(1.5), "61-1-0001": flac(0.5)}), encoding="utf-8")

    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
    page = context.new_page()
    messages = []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("requestfailed", lambda request: messages.append(request.url[:100]))
    page.goto(path.as_uri())
    assert page.title() == "clean: speech recognition report"
    page.wait_for_function("[...document.querySelectorAll('audio')].every(each => each.duration > 0)")
    assert page.evaluate("[...document.querySelectorAll('audio')].map(each => each.duration)") == [1.5, 0.5]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(OVERFLOWING) == []
    assert page.evaluate(UNREADABLE) == []

    svgs = page.locator("svg.picture")
    assert svgs.count() == 6
    for index in range(6):
        box = svgs.nth(index).bounding_box()
        assert box["width"] > 300 and box["height"] > 50
    ink, paper = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    assert (brightness(ink) < brightness(paper)) is (scheme == "light")
    assert page.evaluate("getComputedStyle(document.querySelector('svg.picture text')).fill") == ink

    for text, what in (("p99 latency (ms)", "99 of 100 inferences"), ("numbers", "length (s)")):
        shown = page.get_by_text(what).first
        assert not shown.is_visible()
        page.locator("summary", has_text=text).first.click()
        assert shown.is_visible()
    page.locator("thead a", has_text="OpenVINO int8").click()
    assert page.evaluate("location.hash") == "#conditions2"
    assert messages == []
    context.close()


def brightness(colour):
    return sum(map(int, colour.removeprefix("rgb(").removesuffix(")").split(", ")))
