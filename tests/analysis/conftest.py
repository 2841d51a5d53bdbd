"""Results folders that several tests read; they are written once a session and never changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.analysis.figures import make_figures
from harness.analysis.tables import make_tables
from tests.analysis.synthetic_results import write_depth


@pytest.fixture(scope="session")
def depth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The depth study at its real size, a cell diverged and a seed missing, through tables and figures."""
    results = write_depth(tmp_path_factory.mktemp("results") / "depth")
    make_tables(results)
    make_figures(results)
    return results
