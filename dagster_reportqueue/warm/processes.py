"""Process relations on Linux: death with the parent, adopted orphans, children, groups."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
MAX_NAME, MAX_LISTED = 120, 10
# Looked up once in the server; forked processes only call it. Systems other than Linux do not have it.
_prctl = getattr(ctypes.CDLL(None), "prctl", None)


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent dies; ends it now if the parent has already died."""
    if _prctl is not None:
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Become the parent of each descendant whose own parent dies, in any session and group."""
    if _prctl is not None:
        _prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children() -> set[int]:
    """The process ids of this process's own and adopted children, including those not waited for yet.

    Correct only for a process that forks and waits only in its main thread.
    """
    pid = os.getpid()
    try:
        return {int(child) for child in Path(f"/proc/self/task/{pid}/children").read_text().split()}
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        everyone = (int(entry) for entry in os.listdir("/proc") if entry.isdecimal()) if os.path.isdir("/proc") else ()
        return {other for other in everyone if _parent(other) == pid}


def children_of(pid: int) -> set[int]:
    """The children of another process and all its threads; a snapshot, as they may start and end meanwhile."""
    found: set[int] = set()
    for place in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found |= {int(child) for child in place.read_text().split()}
    return found


def describe(pid: int) -> str:
    """A description for people: the process's command and id."""
    command = _command(pid)
    if command and command == _command(os.getpid()):
        command = "a forked copy of the run"
    return f"{command[:MAX_NAME] or 'a process'} (pid {pid})"


def listed(names: Iterable[str]) -> str:
    """A list for people: the first names, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - MAX_LISTED} more" if len(every) > MAX_LISTED else ""
    return ", ".join(every[:MAX_LISTED]) + more


def has_ended(pid: int) -> bool:
    """Whether a process has ended, also if its parent has not waited for it yet."""
    return _facts(pid)[:1] in ([], ["Z"])


def threads(pid: int) -> int:
    """How many threads a process has."""
    try:
        return len(os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return 1


def group(pid: int) -> int | None:
    """The process group of a process; None if there is no such process."""
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def kill_group(leader: int) -> None:
    """Kill the processes of a group, if there is one."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def kill_with_group(pid: int) -> bool:
    """Kill a process and the group that it leads, if it leads one; returns False if this is not permitted."""
    kill_group(pid)
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return True


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def _parent(pid: int) -> int | None:
    facts = _facts(pid)
    return int(facts[1]) if facts else None


def _facts(pid: int) -> list[str]:
    """The fields of `/proc/PID/stat` after the name: state, parent, and so on; empty if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return []


def say(text: str) -> None:
    """Write a line to stderr, for people. The reader of that pipe may be gone: this must not end the process."""
    with suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)
