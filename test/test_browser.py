# SPDX-License-Identifier: Apache-2.0
"""Proves in a real browser, headless and offline, that the report's page loads, fits, draws, and plays recordings."""

from __future__ import annotations

import shutil

import pytest

from wav2vec2_eval.report.page import render

from example_summary import RUNS, example_summary, recording

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome is on the PATH")

OPTIONS = (
    "--no-sandbox",  # which root needs
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
SECONDS = (0.5, 1.25, 2.0)


def hostile_summary():
    """Long words, long ids, and texts that would be scripts."""
    summary = example_summary(8)
    long_title = "a_title_without_any_space_" * 8
    for name in ("figures", "conditions", "details", "ratios", "comparisons"):
        summary[name] = {long_title if title == RUNS[1] else title: each for title, each in summary[name].items()}
    summary["conditions"][long_title]["model"] = "models/" + "x" * 300
    details = summary["details"][long_title]
    details["worst"][0] |= {"id": "id" * 150, "edits": [["substitute", "W" * 400, "<script>console.log(1)</script>"]]}
    details["confusions"][0] |= {"reference": "Y" * 300, "hypothesis": "<img src=x onerror=console.log(2)>"}
    details["WER by speaker"][0]["speaker"] = "<script>console.log(3)</script>"
    return summary


PAGES = {
    "three runs": lambda: render(
        example_summary(), {f"9001-{120 + at}-{at:04d}": recording(seconds) for at, seconds in enumerate(SECONDS)}
    ),
    "one run": lambda: render(example_summary(1, scored=False)),
    "hostile": lambda: render(hostile_summary()),
}


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=BROWSER, args=OPTIONS)
        yield opened
        opened.close()


@pytest.fixture(scope="module", params=PAGES)
def page_file(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(PAGES[request.param](), encoding="utf-8")
    return path


class Visit:
    """A page that is open, with what it complained about."""

    def __init__(self, browser, path, width=1280, scheme="light"):
        self.context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True, java_script_enabled=True
        )
        self.complaints = []
        self.context.route("**/*", self.allow)
        self.page = self.context.new_page()
        self.page.on("console", lambda message: self.complaints.append(f"console: {message.text}"))
        self.page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        self.page.on("requestfailed", lambda request: self.complaints.append(f"failed: {request.url[:100]}"))
        self.page.goto(path.as_uri(), wait_until="load")

    def allow(self, route):
        if route.request.url.startswith(("file:", "data:")):
            route.continue_()
        else:
            self.complaints.append(f"asked for {route.request.url[:100]}")
            route.abort()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_loads_and_fits(browser, page_file, width, scheme):
    """Also when all that can be opened is open."""
    with Visit(browser, page_file, width, scheme) as visit:
        for _ in range(2):
            assert visit.page.evaluate("document.documentElement.scrollWidth") == width
            too_wide = visit.page.evaluate(
                """() => [...document.querySelectorAll('body *')].filter(each => !each.closest('.scroll, .defs, svg')
                && each.getBoundingClientRect().right > innerWidth + 1).map(each => each.outerHTML.slice(0, 200))"""
            )
            assert too_wide == []
            for svg in visit.page.locator("figure > svg").all():
                box = svg.bounding_box()
                assert box["width"] > 300 and box["height"] > 80
            visit.page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
        assert visit.complaints == []


def test_dark_is_dark_and_paper_is_white(browser, page_file):
    background = "getComputedStyle(document.body).backgroundColor"
    with Visit(browser, page_file, scheme="dark") as visit:
        assert visit.page.evaluate(background) == "rgb(20, 23, 27)"
        visit.page.emulate_media(media="print")
        assert visit.page.evaluate(background) == "rgb(255, 255, 255)"


def test_texts_in_pictures_do_not_overlap_the_edge(browser, page_file):
    """The page's font is not the one that matplotlib measured."""
    with Visit(browser, page_file) as visit:
        outside = visit.page.evaluate(
            """() => [...document.querySelectorAll('figure > svg text')].filter(text => {
                const inner = text.getBoundingClientRect(), outer = text.closest('svg').getBoundingClientRect()
                return inner.left < outer.left - 2 || inner.right > outer.right + 2
                    || inner.top < outer.top - 2 || inner.bottom > outer.bottom + 2
            }).map(text => text.textContent)"""
        )
        assert outside == []


def test_a_label_leads_to_its_meaning_and_a_title_to_its_conditions(browser, page_file):
    with Visit(browser, page_file) as visit:
        for link in ("RTFx", RUNS[0]):
            visit.page.locator(".main").get_by_role("link", name=link, exact=True).click()
            target = visit.page.locator(":target")
            assert link in target.inner_text()
            assert target.bounding_box()["y"] < 900
        assert visit.page.locator("#run-0 .conditions").is_visible()


def test_recordings_can_be_played(browser, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(PAGES["three runs"](), encoding="utf-8")
    with Visit(browser, path) as visit:
        visit.page.wait_for_function("[...document.querySelectorAll('audio')].every(each => each.readyState >= 1)")
        durations = visit.page.evaluate("[...document.querySelectorAll('audio')].map(each => each.duration)")
        assert durations == pytest.approx(SECONDS, abs=0.01)
        assert visit.page.evaluate("[...document.querySelectorAll('audio')].map(each => each.error)") == [None] * 3
        assert visit.complaints == []


def test_the_policy_of_the_page_forbids_scripts(browser, tmp_path):
    """The page does not rely on escaping alone."""
    path = tmp_path / "report.html"
    path.write_text(
        PAGES["one run"]().replace("</body>", "<script>document.title = 'changed'</script></body>"), encoding="utf-8"
    )
    with Visit(browser, path) as visit:
        assert visit.page.title() != "changed"
        assert any("Content Security Policy" in each for each in visit.complaints)
