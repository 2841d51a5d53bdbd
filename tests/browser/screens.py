"""Opens both dashboards of a workspace and its page of latents in headless Chromium and takes their pictures.

`python -m tests.browser.screens . depth docs/img` takes those of the documentation (`make screenshots`).
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def dashboards(root: Path) -> Iterator[dict[str, str]]:
    """Runs `harness ui` on free ports: the address of each dashboard."""
    ports = {"optuna": free_port(), "mlflow": free_port()}
    command = [sys.executable, "-m", "harness", "ui"]
    command += [f"--{which}-port={port}" for which, port in ports.items()]
    server = subprocess.Popen(
        command, cwd=root, stdout=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "200"}
    )
    try:
        addresses: dict[str, str] = {}
        for line in server.stdout or ():
            if found := re.search(r"(Optuna|MLflow).*?(http://\S+)", line):
                addresses[found[1].lower()] = found[2]
            if "Ctrl-C" in line:
                break
        yield addresses
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)


@contextmanager
def browser_page(width: int = 1400, height: int = 1000, **options: Any) -> Iterator[Page]:
    """A page in a browser of its own; `options` as of `Browser.new_page`."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": width, "height": height}, **{"color_scheme": "light"} | options)
        page.set_default_timeout(60_000)
        yield page
        browser.close()


def visit_optuna(page: Page, address: str, study: str, folder: Path) -> None:
    """The study's history and note, how the axes bear on the error, and the list of its trials."""
    page.goto(address)
    page.get_by_text(re.compile(rf"^\d+\. {study}$")).first.click()
    page.get_by_text("Hyperparameter Importance").wait_for()
    page.wait_for_timeout(4000)
    page.screenshot(path=folder / "optuna_study.png")
    address = page.url.rstrip("/")
    page.goto(f"{address}/analytics")
    page.get_by_text("Slice", exact=True).wait_for()
    page.wait_for_timeout(4000)
    page.screenshot(path=folder / "optuna_axes.png")
    page.goto(f"{address}/note")
    page.get_by_text("Base recipe:").wait_for()
    page.screenshot(path=folder / "optuna_note.png")
    page.goto(f"{address}/trials")
    page.get_by_text("Intermediate Values").wait_for()
    page.wait_for_timeout(2000)
    page.screenshot(path=folder / "optuna_trials.png")


def visit_mlflow(page: Page, address: str, study: str, folder: Path) -> None:
    """The arms as the report has them, above the study's run with its cells, and their curves against tokens."""
    page.goto(address)
    page.get_by_text(f"study {study}", exact=True).first.wait_for()
    page.get_by_role("button", name="Close", exact=True).click()  # an assistant
    page.wait_for_timeout(1500)
    page.screenshot(path=folder / "mlflow_runs.png")
    page.goto(page.url.replace("/runs?", "/runs?compareRunsMode=CHART&"))
    page.get_by_placeholder("Search metric charts").fill("heldout")
    page.get_by_text("heldout/fvu").first.wait_for()
    page.wait_for_timeout(6000)
    page.screenshot(path=folder / "mlflow_curves.png")


def visit_latents(page: Page, path: Path, folder: Path) -> None:
    """The page of a study's latents, with the one that is explained best among those that fire often."""
    page.goto(path.absolute().as_uri())
    page.get_by_label("fires on at least").fill("0.1")
    page.get_by_role("button", name="detection", exact=True).click()
    page.locator("#rows .latent").first.click()
    page.locator("#detail mark").first.wait_for()
    page.evaluate("scrollTo(0, 0)")
    page.screenshot(path=folder / "features.png")


def main() -> None:
    root, study, folder = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    folder.mkdir(parents=True, exist_ok=True)
    with dashboards(root) as addresses, browser_page() as page:
        visit_optuna(page, addresses["optuna"], study, folder)
        visit_mlflow(page, addresses["mlflow"], study, folder)
        visit_latents(page, root / "results" / study / "features.html", folder)


if __name__ == "__main__":
    main()
