"""The page of a study's latents in a real browser, also with 24,576 of them (`make browser`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright", reason="make browser installs it")

from playwright.sync_api import Page

from harness.analysis.latent_page.cells import page_cells
from harness.analysis.latent_page.page import make_page
from harness.analysis.results.files import read_cells, read_study
from tests.analysis.synthetic_results import write_grid
from tests.browser.screens import browser_page
from tests.browser.test_report_page import CONTRASTS, STICKING_OUT, WIDTHS
from tests.interpretability.latent_tables import write_cell, write_tokens

pytestmark = pytest.mark.browser

MANY = 24_576
# How long a change of a field takes, in ms, from the event to the next frame after the rows are drawn
TIMED = """([name, value]) => new Promise((done) => {
  const field = document.getElementById("filters").elements[name];
  field.value = value;
  const start = performance.now();
  field.dispatchEvent(new Event("input", { bubbles: true }));
  requestAnimationFrame(() => setTimeout(() => done(performance.now() - start)));
})"""


def write(folder: Path, axes: dict[str, list[Any]], seeds: int, latents: int, **changes: Any) -> Path:
    results = write_grid(folder / "results", axes, seeds, lambda levels, seed: 0.1)
    study = read_study(results)
    cells = read_cells(results, study)
    write_tokens(folder / "latents")
    for place, cell in enumerate(cells):
        write_cell(folder / "latents" / cell.cell, latents, seed=place, **changes)
    out = folder / "features.html"
    make_page(study, page_cells(folder / "latents", study, cells), folder / "latents", out)
    return out


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("small"), {"layers": ["none", "dense 2-2"]}, 2, 200, layers=2)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("many"), {"layers": ["none"]}, 1, MANY, each=2)


def visited(page: Page, path: Path, fragment: str = "") -> Page:
    page.goto(f"{path.as_uri()}{fragment}")
    page.locator("#rows .latent").first.wait_for()
    return page


@pytest.fixture
def desktop() -> Iterator[Page]:
    with browser_page(WIDTHS["desktop"], 800) as page:
        yield page


def shown(page: Page, column: str) -> list[str]:
    return page.locator(f"#rows [data-name={column}]").all_inner_texts()


def total(page: Page) -> int:
    return int(str(page.locator("#grid").get_attribute("aria-rowcount"))) - 1


@pytest.mark.parametrize("device", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_sticks_out_and_all_can_be_read(small: Path, tmp_path: Path, device: str, scheme: Any):
    wrong: list[str] = []
    with browser_page(WIDTHS[device], 800, color_scheme=scheme) as page:
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda one: None if one.url.startswith(("file:", "blob:")) else wrong.append(one.url))
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        visited(page, small)
        for opened in ("list", "latent"):
            if opened == "latent":
                page.locator("#rows .latent:not(:has(.tag))").first.click()
                page.locator("#detail .window").first.wait_for()
            assert page.evaluate(STICKING_OUT) == []
            contrasts = page.evaluate(CONTRASTS)
            assert {name: ratio for name, ratio in contrasts.items() if ratio < 4.5} == {}
            page.screenshot(path=tmp_path / f"{device}_{scheme}_{opened}.png")
        page.locator("#detail img, #detail b").wait_for(state="detached")
    assert not wrong


def test_24576_latents_are_there_within_a_second_and_filtered_within_a_tenth(many: Path, desktop: Page):
    page = visited(desktop, many)
    paints = page.evaluate("performance.getEntriesByType('paint').map((one) => one.startTime)")
    listed = page.evaluate("performance.getEntriesByName('list')[0].startTime")
    assert total(page) == MANY
    assert page.locator("#rows .latent").count() < 100
    assert max(paints) < 1000
    assert listed < 1500
    changes = [("text", "word12"), ("text", "word1"), ("text", ""), ("state", "token_only"), ("rate_low", "0.1")]
    changes += [("score_low", "70"), ("state", ""), ("rate_low", "")]
    page.wait_for_load_state()
    runs = [[page.evaluate(TIMED, list(change)) for change in changes] for _ in range(3)]  # others delay some
    times = [min(of_change) for of_change in zip(*runs, strict=True)]
    assert max(times) < 100, times
    page.evaluate("scrollTo(0, 20000 * rowHeight())")
    page.wait_for_function("() => document.querySelector('#rows .latent')?.dataset.row > 15000")


def test_filters_and_sorting_show_what_they_say(small: Path, desktop: Page):
    page = visited(desktop, small)
    assert total(page) == 800
    page.get_by_label("State").select_option("dead")
    assert set(shown(page, "firing_rate")) == {"0\u00a0%"}
    dead = total(page)
    page.get_by_label("Arm").select_option("dense 2-2")
    assert set(shown(page, "cell")) == {"dense 2-2"}
    assert 0 < total(page) < dead
    page.get_by_role("button", name="Clear").click()
    page.wait_for_function("() => document.querySelector('#grid').ariaRowCount == 801")
    page.get_by_role("button", name="detection", exact=True).click()
    figures = [float(text) for text in shown(page, "detection")]
    assert figures == sorted(figures, reverse=True)
    page.get_by_label("score at least").fill("60")
    page.get_by_label("score at most").fill("70")
    assert all(60 <= float(text) <= 70 for text in shown(page, "detection"))
    page.get_by_label("Search").fill("nothing has this")
    assert total(page) == 0
    assert "no latent passes" in page.locator("#summary").inner_text()


def test_the_keyboard_reaches_everything(small: Path, desktop: Page):
    page = visited(desktop, small)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("/")
    page.keyboard.type("word")
    assert page.get_by_label("Search").input_value() == "word"
    page.locator("#grid").focus()
    for key in ("ArrowDown", "j", "j", "k", "End", "Home", "PageDown"):
        page.keyboard.press(key)
        row = page.locator('#rows [aria-selected="true"]')
        assert row.count() == 1
        assert page.locator("#grid").get_attribute("aria-activedescendant") == row.get_attribute("id")
        box = row.bounding_box()
        assert box is not None
        assert 0 <= box["y"] <= 800 - box["height"]
    page.wait_for_function("() => document.querySelector('#detail').dataset.row == chosen")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "detail"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "grid"


def test_a_link_shows_its_latent(small: Path, desktop: Page):
    page = visited(desktop, small)
    address = page.evaluate("address(order.findLast((row) => !columns.dead[row] && !columns.unscored[row]))")
    visited(page, small, address)
    number = address.split("/")[1]
    page.get_by_role("heading", name=f"Latent {number}", exact=True).wait_for()
    assert page.locator("#detail mark.peak").count() > 5
    page.get_by_label("State").select_option("dead")
    page.evaluate("(address) => { location.hash = ''; location.hash = address; }", address)
    page.locator(f"#rows .latent[aria-selected=true] [data-name=latent]:text-is('{number}')").wait_for()


def test_on_a_phone_the_latent_covers_the_list_and_back_returns(small: Path):
    with browser_page(WIDTHS["phone"], 800) as page:
        visited(page, small)
        assert not page.locator("#detail").is_visible()
        page.evaluate("scrollTo(0, 3000)")
        page.wait_for_timeout(100)
        page.locator("#rows .latent").nth(12).click()
        page.locator("#detail .close").wait_for()
        page.go_back()
        page.locator("#detail").wait_for(state="hidden")
        assert page.evaluate("scrollY") > 2000


def test_paper_has_the_first_rows_and_the_chosen_latent(small: Path, desktop: Page, tmp_path: Path):
    page = visited(desktop, small)
    page.locator("#rows .latent").nth(3).click()
    page.emulate_media(media="print")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator("#rows .latent").count() == 200
    assert not page.locator("#filters").is_visible()
    page.pdf(path=tmp_path / "latents.pdf", format="A4")
    assert (tmp_path / "latents.pdf").stat().st_size > 20_000
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.locator("#rows .latent").count() < 100
