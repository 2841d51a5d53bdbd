"""How much memory there is for each worker."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

# Of what is free now: others use the machine too, and the need is an estimate. On a GPU the rest is also for what
# torch's allocator reserves beyond what tensors take.
SHARE = 0.8
UNUSED, SETTLING = 0.95, 10  # share of a GPU that is free where nobody uses it; seconds at most
PROCESS = 600 * 2**20  # bytes that a worker uses before its first cell: libraries, and on a GPU its context

# For each version of control groups: folder, limit, usage, and the part of it that the kernel would reclaim.
GROUPS = {
    "": ("", "memory.max", "memory.current", "inactive_file"),
    "memory": ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
KILLS = {"": ("", "memory.events"), "memory": ("memory", "memory.oom_control")}  # folder, file of the count


class Share(NamedTuple):
    """A worker's part of a device. cells: bytes by which its cohorts are chosen.

    limit: bytes beyond which torch gives it nothing on a GPU that it shares with other workers, so that a cell
    that needs more than was expected takes nothing from theirs; None: whatever there is.
    """

    cells: int
    limit: int | None = None


def shares(devices: Sequence[str], workers: int, shared: int) -> list[Share]:
    """That of each worker; worker w uses device w modulo the number of devices.

    shared: bytes that a worker needs in addition, for all its cells together.
    """
    free = {device: free_bytes(device) for device in dict.fromkeys(devices)}
    used = [devices[worker % len(devices)] for worker in range(workers)]
    return [share(device, free[device], used.count(device), shared) for device in used]


def share(device: str, free: int, workers: int, shared: int) -> Share:
    """That of each of `workers` workers that share `free` bytes of a device."""
    cells = max(0, int(SHARE * free / workers) - PROCESS - shared)
    limited = device != "cpu" and workers > 1
    return Share(cells, max(0, free // workers - PROCESS) if limited else None)


def free_bytes(device: str) -> int:
    """Free memory of `cpu`, or of a GPU such as `cuda:0`."""
    return free_ram() if device == "cpu" else _settled(device)


def _settled(device: str) -> int:
    """Of a GPU. Where more becomes free, as when workers of a sweep that was killed are ending, waits for it."""
    import torch

    free, total = torch.cuda.mem_get_info(device)
    for _ in range(SETTLING):
        if free > UNUSED * total:
            break
        time.sleep(1)
        before, (free, _) = free, torch.cuda.mem_get_info(device)
        if free <= before:
            break
    return int(free)


def free_ram(system: Path = Path("/")) -> int:
    """Bytes that this process may still use, given the machine and its control groups."""
    meminfo = system / "proc" / "meminfo"
    if not meminfo.exists():  # not Linux: assume half of all memory
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return min([_number(meminfo, "MemAvailable:") * 1024, *_left_in_groups(system)])


def oom_kills(system: Path = Path("/")) -> int:
    """Processes killed for lack of memory in this control group, or on this machine; 0 if that is not known."""
    cgroup = system / "proc" / "self" / "cgroup"
    for line in cgroup.read_text().splitlines() if cgroup.exists() else ():
        _, controller, path = line.split(":", 2)
        if controller in KILLS:
            folder, name = KILLS[controller]
            events = system / "sys" / "fs" / "cgroup" / folder / path.lstrip("/") / name
            if events.exists():
                return _number(events, "oom_kill")
    vmstat = system / "proc" / "vmstat"
    return _number(vmstat, "oom_kill") if vmstat.exists() else 0


def _left_in_groups(system: Path) -> Iterator[int]:
    for line in (system / "proc" / "self" / "cgroup").read_text().splitlines():
        _, controller, path = line.split(":", 2)
        if controller in GROUPS:
            folder, limit, usage, reclaimable = GROUPS[controller]
            top = system / "sys" / "fs" / "cgroup" / folder
            group = top / path.lstrip("/")
            for above in (group, *group.parents):
                if (above / limit).exists() and (most := (above / limit).read_text().strip()) != "max":
                    cached = _number(above / "memory.stat", reclaimable)
                    yield int(most) - int((above / usage).read_text()) + cached
                if above == top:
                    break


def _number(file: Path, name: str) -> int:
    """The number after `name` at the start of a line."""
    found = re.search(rf"^{name}\s+(\d+)", file.read_text(), re.MULTILINE)
    return int(found[1]) if found else 0
