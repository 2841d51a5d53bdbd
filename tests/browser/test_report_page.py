"""The report page in a real browser: nothing overlaps or sticks out, all of it can be reached (`make browser`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright", reason="make browser installs it")

from playwright.sync_api import Page

from harness.analysis.figures import make_figures
from harness.analysis.report import make_report
from harness.analysis.tables import make_tables
from tests.analysis.synthetic_results import write_depth, write_grid, write_large
from tests.browser.screens import browser_page

pytestmark = pytest.mark.browser

LONG = "a name of three hundred letters, as a path or a whole sentence may be " + "x" * 230
WIDTHS = {"desktop": 1280, "phone": 390}
OPEN_ALL = "document.querySelectorAll('details').forEach((fold) => { fold.open = true; })"

STICKING_OUT = """() => {
  const width = document.documentElement.clientWidth, found = [];
  if (document.documentElement.scrollWidth > width) found.push("the page scrolls sideways");
  for (const one of document.querySelectorAll("body *:not(.skip)")) {
    const box = one.getBoundingClientRect();
    if (!box.width || !one.checkVisibility() || one.closest(".scroll")) continue;
    if (box.right > width + 1) found.push(one.outerHTML.slice(0, 80));
  }
  return found;
}"""
OVERLAPPING = """() => {
  const blocks = [...document.querySelectorAll("h1, h2, h3, p, summary, figcaption, .scroll, nav li, main li")];
  const placed = blocks.filter((one) => one.checkVisibility()).map((one) => [one, one.getBoundingClientRect()]);
  const boxes = placed.filter(([, box]) => box.width && box.height);
  const found = [];
  for (const [i, [one, a]] of boxes.entries()) for (const [other, b] of boxes.slice(i + 1)) {
    if (one.contains(other) || other.contains(one)) continue;
    const x = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const y = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (x > 1 && y > 1) found.push([one.outerHTML.slice(0, 80), other.outerHTML.slice(0, 80)]);
  }
  for (const cell of document.querySelectorAll("th, td"))
    if (cell.scrollWidth > cell.clientWidth + 1) found.push(["cut off", cell.outerHTML.slice(0, 80)]);
  return found;
}"""
# of text on its background, by WCAG 2.2: https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio
CONTRASTS = """() => {
  const parse = (colour) => {
    const parts = colour.match(/[\\d.]+/g).map(Number);
    return colour.startsWith("color(srgb") ? parts.map((part, i) => (i < 3 ? 255 * part : part)) : parts;
  };
  const luminance = ([r, g, b]) => {
    const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  };
  const background = (one) => {
    for (; one; one = one.parentElement) {
      const colour = parse(getComputedStyle(one).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = {};
  while (texts.nextNode()) {
    const one = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !one.checkVisibility() || one.tagName === "SCRIPT") continue;
    const [a, b] = [parse(getComputedStyle(one).color), background(one)].map(luminance).sort((x, y) => y - x);
    const name = `${one.tagName}.${one.className}`;
    found[name] = Math.min(found[name] ?? 21, (a + 0.05) / (b + 0.05));
  }
  return found;
}"""


def report(results: Path) -> Path:
    make_tables(results)
    make_figures(results)
    return make_report(results)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("results")
    named = write_grid(folder / "names", {"layers": ["none", LONG]}, 3, lambda levels, seed: 0.1 + 0.001 * seed)
    return {
        "depth": report(write_depth(folder / "depth")),
        "many": report(write_large(folder / "many")),
        "names": report(named),
    }


def visited(page: Page, path: Path, fragment: str = "") -> Page:
    page.goto(f"{path.as_uri()}{fragment}")
    return page


@pytest.fixture
def desktop() -> Iterator[Page]:
    with browser_page(WIDTHS["desktop"], 800) as page:
        yield page


@pytest.mark.parametrize("study", ["depth", "many", "names"])
@pytest.mark.parametrize("device", WIDTHS)
def test_nothing_overlaps_or_sticks_out(pages: dict[str, Path], tmp_path: Path, study: str, device: str):
    wrong: list[str] = []
    with browser_page(WIDTHS[device], 800) as page:
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on(
            "request",
            lambda request: None if request.url.startswith(("file:", "data:")) else wrong.append(request.url),
        )
        visited(page, pages[study])
        for opened in ("folded", "open"):
            assert page.evaluate(STICKING_OUT) == []
            assert page.evaluate(OVERLAPPING) == []
            page.screenshot(path=tmp_path / f"{study}_{device}_{opened}.png", full_page=True)
            page.evaluate(OPEN_ALL)
    assert not wrong


def test_the_first_screen_has_the_question_the_answer_and_what_weakens_it(desktop: Page, pages: dict[str, Path]):
    visited(desktop, pages["depth"])
    for words in ("h1", ".question", "#answer", "#weaker", ".first li >> nth=0"):
        box = desktop.locator(words).bounding_box()
        assert box is not None
        assert box["y"] + box["height"] <= 800, words


def column(page: Page, table: str, place: int) -> list[str]:
    rows = page.locator(f"#{table} tbody tr > *:nth-child({place})")
    return [text.split("\n")[0] for text in rows.all_inner_texts()]


def test_tables_are_sorted_by_keyboard(desktop: Page, pages: dict[str, Path]):
    page = visited(desktop, pages["depth"])
    page.locator("#arms thead th").nth(0).locator("button").focus()
    labels = page.locator("#arms thead th button").all_inner_texts()
    for _ in range(labels.index("FVU")):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    heading = page.locator("#arms thead th").nth(labels.index("FVU"))
    assert heading.get_attribute("aria-sort") == "ascending"
    figures = [float(text) for text in column(page, "arms", labels.index("FVU") + 1)]
    assert figures == sorted(figures)
    page.keyboard.press("Space")
    assert heading.get_attribute("aria-sort") == "descending"
    assert [float(text) for text in column(page, "arms", labels.index("FVU") + 1)] == sorted(figures, reverse=True)
    assert page.locator("#arms th[aria-sort]").count() == 1


def test_a_link_opens_and_shows_its_row(desktop: Page, pages: dict[str, Path]):
    page = visited(desktop, pages["depth"])
    link = page.locator(".parts a.row").first
    anchor = str(link.get_attribute("href"))
    assert not page.locator(anchor).is_visible()
    for _ in range(2):  # also once more after it was folded again
        link.focus()
        page.keyboard.press("Enter")
        page.locator(anchor).wait_for()
        assert in_view(page, anchor)
        assert page.evaluate("document.activeElement.id") == anchor[1:]
        page.evaluate("document.querySelectorAll('details').forEach((fold) => { fold.open = false; })")
    visited(page, pages["names"])
    assert in_view(visited(page, pages["depth"], anchor), anchor)  # from elsewhere


def in_view(page: Page, anchor: str) -> bool:
    box = page.locator(anchor).bounding_box()
    return box is not None and 0 <= box["y"] <= 800


def test_the_skip_link_is_the_first_thing_that_tab_reaches(desktop: Page, pages: dict[str, Path]):
    page = visited(desktop, pages["depth"])
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.activeElement.id === 'answer'", timeout=10_000)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_told_from_its_background(pages: dict[str, Path], tmp_path: Path, scheme: Any):
    with browser_page(WIDTHS["desktop"], 800, color_scheme=scheme) as page:
        visited(page, pages["depth"], "#effects-1")
        page.evaluate(OPEN_ALL)
        contrasts = page.evaluate(CONTRASTS)
        assert len(contrasts) > 8
        assert {name: ratio for name, ratio in contrasts.items() if ratio < 4.5} == {}
        behind = page.locator("figure .scroll").first.evaluate("(one) => getComputedStyle(one).backgroundColor")
        assert behind == "rgb(255, 255, 255)"
        page.screenshot(path=tmp_path / f"{scheme}.png", full_page=True)


def test_it_works_without_scripts(pages: dict[str, Path]):
    with browser_page(WIDTHS["desktop"], 800, java_script_enabled=False) as page:
        visited(page, pages["depth"])
        assert page.locator("th button").count() == 0
        fold = page.locator("details", has=page.locator("#effects")).first
        assert not page.locator("#effects").is_visible()
        fold.locator("summary").first.focus()
        page.keyboard.press("Enter")
        assert page.locator("#effects").is_visible()


def test_paper_has_everything(desktop: Page, pages: dict[str, Path], tmp_path: Path):
    page = visited(desktop, pages["depth"])
    page.emulate_media(media="print")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    assert not page.locator("nav").is_visible()
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.locator("details:not([open])").count() > 3
    page.pdf(path=tmp_path / "report.pdf", format="A4")
    assert (tmp_path / "report.pdf").stat().st_size > 50_000


def test_a_page_of_840_cells_is_there_within_two_seconds(desktop: Page, pages: dict[str, Path]):
    page = visited(desktop, pages["many"])
    timing = page.evaluate("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd")
    assert timing < 2000
    assert pages["many"].stat().st_size < 6_000_000
