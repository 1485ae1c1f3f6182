"""What /proc says of a server: CPU, memory and writes of its whole process tree; memory and segments of the kernel."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
PAGE_KB = os.sysconf("SC_PAGE_SIZE") // 1024


def tree(pid: int) -> list[int]:
    """The process and all its descendants."""
    found = [pid]
    for parent in found:
        with suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
    return found


def cpu_seconds(pid: int) -> float:
    """Of the tree, user and system, with the children that have ended; in steps of a tick (10 ms)."""
    ticks = 0
    for one in tree(pid):
        with suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(int(field) for field in fields[11:15])
    return ticks / TICK


def cpu_ns(pid: int) -> int:
    """As `cpu_seconds`, in nanoseconds, of the processes and threads that live."""
    total = 0
    for one in tree(pid):
        with suppress(OSError):
            for task in Path(f"/proc/{one}/task").iterdir():
                total += int((task / "schedstat").read_text().split()[0])
    return total


def write_calls(pid: int) -> int:
    """write() and its kin of the tree. send() is not among them: how much that is depends on the server."""
    return sum(_number(f"/proc/{one}/io", "syscw") for one in tree(pid))


def private_kb(pid: int) -> int:
    """Resident memory that the tree shares with nobody."""
    return sum(_number(f"/proc/{one}/smaps_rollup", "Private_Clean", "Private_Dirty") for one in tree(pid))


def written_kb(pid: int) -> int:
    """That of it which it has written to. Unlike `private_kb` it stays when another user of a library comes or goes."""
    return sum(map(written_kb_of, tree(pid)))


def written_kb_of(pid: int) -> int:
    """As `written_kb`, of this process alone."""
    return _number(f"/proc/{pid}/smaps_rollup", "Private_Dirty")


def kernel_kb() -> int:
    """The kernel's memory on this machine: slabs, pages of TCP's buffers. Both ends of a connection are in it."""
    sockets = Path("/proc/net/sockstat").read_text()
    pages = next(line.rpartition("mem ")[2] for line in sockets.splitlines() if line.startswith("TCP:"))
    return _number("/proc/meminfo", "Slab", "KernelStack", "PageTables") + int(pages) * PAGE_KB


def segments_out() -> int:
    """TCP segments sent on this machine, by anybody, acknowledgements included."""
    lines = [line.split() for line in Path("/proc/net/snmp").read_text().splitlines() if line.startswith("Tcp:")]
    return int(lines[1][lines[0].index("OutSegs")])


def descriptors(pid: int) -> int:
    """Open descriptors of the tree."""
    return sum(map(descriptors_of, tree(pid)))


def descriptors_of(pid: int) -> int:
    """Open descriptors of this process alone; 0 if it has ended."""
    with suppress(OSError):
        return len(os.listdir(f"/proc/{pid}/fd"))
    return 0


def threads_of(pid: int) -> int:
    """The threads of this process; 0 if it has ended."""
    with suppress(OSError):
        return len(os.listdir(f"/proc/{pid}/task"))
    return 0


def connections(port: int) -> int:
    """Established connections on the server's side of a port."""
    local, established = f":{port:04X}", "01"
    with open("/proc/net/tcp") as lines:
        fields = (line.split(None, 4) for line in lines)
        return sum(1 for one in fields if one[1].endswith(local) and one[3] == established)


def _number(path: str, *names: str) -> int:
    """The sum of the fields `name: 123 kB` of a file; 0 if the process has ended."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return 0
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return sum(int(fields[name].split()[0]) for name in names)
