"""Which cells are trained together, and how many: by batches, number, memory, work and past losses."""

from pathlib import Path

import pytest

from harness.engines.free_memory import free_ram, oom_kills
from harness.study.cells import CellSpec
from harness.study.memory import together
from harness.study.plan import cost
from harness.study.recipe import Recipe
from harness.sweep.cohorts import MAX_LOSSES, CohortQueue, Limits, in_order

NO_LIMITS = Limits(cells=99, bytes=10**15, work=1e30)


def cell(name: str, **changes) -> CellSpec:
    recipe = Recipe(**{"latents": 64, "k": 4, "tokens": 10_000, "batch": 100, **changes})
    return CellSpec(name, {}, {}, recipe, "reported")


def queue(cells: list[CellSpec]) -> CohortQueue:
    costs = {cell.id: cost(cell.recipe, 16) for cell in cells}
    waiting = in_order(cells, costs)
    return CohortQueue(lambda: waiting.pop(0) if waiting else None, costs)


def all_cohorts(cells: list[CellSpec], limits: Limits = NO_LIMITS) -> list[str]:
    """Names of each cohort's cells, until none is left."""
    waiting, found = queue(cells), []
    while cohort := waiting.take(limits):
        found.append("".join(cell.id for cell in cohort))
    return found


def test_cells_that_see_the_same_batches_go_together_and_no_others():
    cells = [
        cell("a", seed=1, layers="sparse 2"),
        cell("b", seed=0, optimizer="muon"),
        cell("c", seed=0, batch=200),
        cell("d", seed=1, lr=1.0, k=9),
        cell("e", seed=0, tokens=5_000),
    ]
    assert sorted(map(sorted, all_cohorts(cells))) == [["a", "d"], ["b", "e"], ["c"]]


@pytest.mark.parametrize(
    ("cells", "limits", "expected"),
    [
        (5, {"cells": 2}, [2, 2, 1]),
        (5, {"cells": 1}, [1, 1, 1, 1, 1]),
        (3, {"bytes": 0}, [1, 1, 1]),  # what may fail alone is tried
        (13, {"work": 6.5}, [7, 6]),  # halves, rounded up
        (3, {"work": 1.5}, [2, 1]),
        (2, {"work": 1.0}, [1, 1]),
        (2, {"work": 0.1}, [1, 1]),
    ],
)
def test_a_cohort_has_no_more_cells_than_its_limits_allow(cells, limits, expected):
    work = cost(cell("").recipe, 16).work
    scaled = {name: value * work if name == "work" else value for name, value in limits.items()}
    equal = [cell(str(number)) for number in range(cells)]
    waiting = queue(equal)
    found = []
    while cohort := waiting.take(Limits(**{**vars(NO_LIMITS), **scaled})):
        found.append(len(cohort))
    assert found == expected


def test_as_many_cells_as_fit_into_memory():
    cells = [cell(name) for name in "abcd"]
    three = together([cost(one.recipe, 16).memory for one in cells[:3]])
    assert [len(c) for c in all_cohorts(cells, Limits(99, three, 1e30))] == [3, 1]
    assert [len(c) for c in all_cohorts(cells, Limits(99, three - 1, 1e30))] == [2, 2]


@pytest.mark.parametrize("reaches", [0, 300], ids=["at once", "later"])
def test_a_cell_that_kills_its_workers_fails_and_its_neighbours_live_on(reaches):
    """Each is tried alone after the first loss, and only what does not come any further is given up."""
    waiting = queue([cell(name) for name in "abcde"])
    first, tried, failed, done = True, [], [], []
    while cohort := waiting.take(Limits(4, 10**15, 1e30)):
        tried.append("".join(one.id for one in cohort))
        for one in cohort:
            waiting.moved(one.id, reaches if first or one.id == "b" else 10_000)
        if "b" in tried[-1]:
            failed += [one.id for one in cohort if not waiting.lost(one)]
        else:
            done += [one.id for one in cohort]
        first = False
    assert (failed, sorted(done)) == (["b"], ["a", "c", "d", "e"])
    assert tried[0] == "abcd"
    assert all(len(names) == 1 for names in tried[1:])
    assert tried.count("b") == MAX_LOSSES - 1


def test_losses_count_until_a_cell_comes_further_than_ever():
    (only,) = cells = [cell("a")]
    waiting = queue(cells)
    waiting.take(NO_LIMITS)
    waiting.moved("a", 500)
    for _ in range(MAX_LOSSES - 1):
        assert waiting.lost(only)
        waiting.moved("a", 400)
    waiting.moved("a", 600)
    for _ in range(MAX_LOSSES - 1):
        assert waiting.lost(only)
        waiting.moved("a", 600)
    assert not waiting.lost(only)


def test_cells_that_were_started_before_come_first():
    a, b, c = cells = [cell(name) for name in "abc"]
    waiting = queue([a])
    waiting._costs |= {one.id: cost(one.recipe, 16) for one in cells}
    waiting.put_back([b, c])
    assert waiting.take(NO_LIMITS) == [b, c, a]


GIB = 2**30


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/\n", {}, 20),
        ("0::/\n", {"memory.max": "max\n"}, 20),
        (
            "0::/a/b\n",
            {"a/memory.max": 8, "a/memory.current": 6, "a/memory.stat": "inactive_file {}", "a/b/x": 0},
            3,
        ),
        ("0::/seen/from/outside\n", {"memory.max": 8, "memory.current": 2, "memory.stat": ""}, 6),
        (
            "3:cpu:/\n2:memory:/job\n0::/\n",
            {
                "memory/job/memory.limit_in_bytes": 4,
                "memory/job/memory.usage_in_bytes": 2,
                "memory/job/memory.stat": "cache 7\ntotal_inactive_file {}\n",
                "memory/memory.limit_in_bytes": 2**33,
                "memory/memory.usage_in_bytes": 5,
                "memory/memory.stat": "",
            },
            3,
        ),
    ],
    ids=["no group", "no limit", "a group above", "a container", "version 1"],
)
def test_free_memory_is_what_the_control_groups_leave(tmp_path, groups, files, expected):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text(f"MemTotal: 99 kB\nMemAvailable:   {20 * 2**20} kB\n")
    (tmp_path / "proc/self/cgroup").write_text(groups)
    for name, value in files.items():
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value.format(GIB) if isinstance(value, str) else f"{value * GIB}\n")
    assert free_ram(tmp_path) == expected * GIB


def test_free_memory_of_this_machine_is_some_and_no_more_than_there_is():
    total = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    assert 0 < free_ram() <= total


def test_a_cell_that_memory_is_too_small_for_is_tried_alone_and_then_in_ever_smaller_parts():
    large, other = cells = [cell("a"), cell("b")]
    waiting = queue(cells)
    assert waiting.take(NO_LIMITS) == cells
    tried = []
    while waiting.out_of_memory(large):
        waiting.put_back([other])
        assert waiting.take(NO_LIMITS) == [large]
        tried.append(waiting.micro_batches(["a"]))
        waiting.moved("a", len(tried))  # that it comes further does not give it more memory
        assert waiting.take(NO_LIMITS) == [other]
        assert waiting.micro_batches(["b"]) == 1
    assert tried == [1, 2, 4, 8]


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/\n", {}, 7),
        ("0::/job\n", {"job/memory.events": "low 0\noom 3\noom_kill 2\n"}, 2),
        ("4:memory:/job\n0::/\n", {"memory/job/memory.oom_control": "oom_kill_disable 0\noom_kill 1\n"}, 1),
    ],
    ids=["no group", "a group", "version 1"],
)
def test_those_killed_for_memory_are_our_own_groups_where_it_says(tmp_path, groups, files, expected):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/vmstat").write_text("oom_kill 7\n")
    (tmp_path / "proc/self/cgroup").write_text(groups)
    for name, value in files.items():
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True)
        path.write_text(value)
    assert oom_kills(tmp_path) == expected
