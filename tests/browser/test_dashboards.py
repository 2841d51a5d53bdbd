"""The dashboards in a real browser, on a sweep that has run (`make browser`)."""

import shutil

import pytest

pytest.importorskip("playwright", reason="make browser installs it")

from harness.cli import main
from tests.browser.screens import browser_page, dashboards, visit_mlflow, visit_optuna

pytestmark = pytest.mark.browser


def test_both_dashboards_show_the_study(undisturbed, tmp_path, monkeypatch):
    root = tmp_path / "copy"
    shutil.copytree(undisturbed, root)
    monkeypatch.chdir(root)
    main(["report", "studies/small.yaml"])
    with dashboards(root) as addresses, browser_page() as page:
        assert set(addresses) == {"optuna", "mlflow"}
        assert all(address.startswith("http://127.0.0.1:") for address in addresses.values())
        outside = []
        page.on("request", lambda request: None if "127.0.0.1" in request.url else outside.append(request.url))
        visit_optuna(page, addresses["optuna"], "small", tmp_path)
        shown = page.content()
        assert all(word in shown for word in ("8 Trials", "layers", "lr"))
        visit_mlflow(page, addresses["mlflow"], "small", tmp_path)
        assert "sparse 2" in page.content()
        assert not [url for url in outside if not url.startswith(("data:", "blob:"))]
    for name in ("optuna_study", "optuna_axes", "optuna_note", "optuna_trials", "mlflow_runs", "mlflow_curves"):
        assert (tmp_path / f"{name}.png").stat().st_size > 20_000
