"""Shows a running sweep: a live panel on a terminal, otherwise a plain line now and then."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from harness.progress import duration

PLAIN_INTERVAL = 15.0  # seconds between two plain lines
RATE_WINDOW = 30.0  # seconds over which rates are measured
HEADER = 6  # lines of the panel above the first row of its table, plus one below


@dataclass
class CellProgress:
    """A cell on a worker."""

    slot: int  # of the worker
    label: str
    total: int  # tokens
    work: float  # of the whole cell, as in Cost
    tokens: int | None = None  # trained on; None until its worker has said where it continues
    fvu: float | None = None  # the curve's last held-out point

    def work_done(self) -> float:
        return self.work * (self.tokens or 0) / self.total


@dataclass
class SweepProgress:
    """The state of a sweep, as shown."""

    study: str
    cells: int  # asked for, as far as results say
    more: bool = False  # whether results may ask for others
    round: str = ""  # what the cells of now are for, in a study with several rounds
    done: int = 0
    failed: int = 0
    retries: int = 0  # of cells whose workers were lost or whose memory was too small
    work: float = 0.0  # of all cells that this run has to train, as far as they are known
    work_done: float = 0.0  # of those that have ended
    tokens: int = 0  # trained on in this run, including those that are repeated after a worker was lost
    work_spent: float = 0.0  # on these
    running: dict[str, CellProgress] = field(default_factory=dict)  # by the cell's id

    def on(self, slot: int) -> list[str]:
        """Cells that the worker of a slot trains."""
        return [name for name, cell in self.running.items() if cell.slot == slot]

    def moved(self, name: str, tokens: int) -> None:
        """A running cell has been trained on this many tokens. Its first report in this run is not new work."""
        cell = self.running[name]
        new = max(0, tokens - cell.tokens) if cell.tokens is not None else 0
        self.tokens += new
        self.work_spent += cell.work * new / cell.total
        cell.tokens = tokens

    def ended(self, name: str, tokens: int | None) -> None:
        """A cell has ended. tokens: those of its result, if it has one."""
        if tokens is not None:
            self.moved(name, tokens)
        self.work_done += self.running.pop(name).work

    def finished_work(self) -> float:
        return self.work_done + sum(cell.work_done() for cell in self.running.values())

    def work_left(self) -> float:
        return self.work - self.finished_work()


class Display:
    """Shows a SweepProgress; use as a context manager and call `update` often."""

    def __init__(self, progress: SweepProgress, console: Console) -> None:
        self._progress = progress
        self._console = console
        self._samples: list[tuple[float, float, int]] = []  # time, work spent, tokens
        self._last_line = time.monotonic()
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> Display:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()
        self._console.print(self._headline())

    def update(self) -> None:
        """Take a sample, and draw if it is time to."""
        now = time.monotonic()
        self._samples.append((now, self._progress.work_spent, self._progress.tokens))
        self._samples = [s for s in self._samples if now - s[0] <= RATE_WINDOW]
        if self._live:
            self._live.update(self._panel(), refresh=True)
        elif now - self._last_line >= PLAIN_INTERVAL:
            self._last_line = now
            self._console.print(self._headline(), soft_wrap=True)

    def _headline(self) -> str:
        p = self._progress
        what = f" ({p.round})" if p.round else ""
        done = f"{p.study}{what}: {p.done} of {p.cells}{' or more' if p.more else ''} cells done"
        parts = [done, f"{len(p.running)} running", f"{p.failed} failed"]
        if p.retries:
            parts.append(f"{p.retries} retried")
        elapsed = self._samples[-1][0] - self._samples[0][0] if self._samples else 0.0
        if p.running and elapsed > 1:
            work = (self._samples[-1][1] - self._samples[0][1]) / elapsed
            tokens = (self._samples[-1][2] - self._samples[0][2]) / elapsed
            parts.append(f"{tokens / 1000:.0f}k tokens/s")
            if work > 0:
                of_round = f" of {p.round}" if p.round and (p.more or p.round == "tuning") else ""
                parts.append(f"{duration(p.work_left() / work)} left{of_round}")
        return " · ".join(parts)

    def _panel(self) -> RenderableType:
        p = self._progress
        bar = ProgressBar(total=max(p.work, 1.0), completed=p.finished_work(), width=60)
        # a bar does not end its line; the padding does
        bar_and_gap = Padding(bar, (0, 0, 1, 0), expand=False)
        return Group(Text(self._headline()), bar_and_gap, table(p, self._console.height - HEADER))


def table(progress: SweepProgress, rows: int) -> Table:
    """The running cells by worker: one cell per row, or one worker per row if there are more than `rows` cells."""
    workers: dict[int, list[CellProgress]] = {}
    for cell in progress.running.values():
        workers.setdefault(cell.slot, []).append(cell)
    shown = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("worker", "cell", "tokens", "held-out FVU"):
        shown.add_column(heading, justify="left" if heading == "cell" else "right", no_wrap=heading != "cell")
    for slot, cells in sorted(workers.items()):
        groups = [cells] if len(progress.running) > rows else [[cell] for cell in cells]
        for number, group in enumerate(groups):
            shown.add_row("" if number else str(slot), *_row(group))
    return shown


def _row(cells: list[CellProgress]) -> tuple[Text, str, str]:
    """The label of some cells, how far they are, and their FVU from best to worst."""
    label = cells[0].label if len(cells) == 1 else f"{len(cells)} cells: {cells[0].label}, ..."
    done = sum(cell.tokens or 0 for cell in cells) / sum(cell.total for cell in cells)
    known = sorted(cell.fvu for cell in cells if cell.fvu is not None)
    fvu = " – ".join(f"{value:.4f}" for value in dict.fromkeys(known[:1] + known[-1:]))
    return (
        Text(label, no_wrap=True, overflow="ellipsis"),
        f"{100 * done:.0f} %",
        fvu,
    )  # a narrow terminal cuts labels
