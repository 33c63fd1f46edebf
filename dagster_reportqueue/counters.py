"""Counters of the Dagster side for Prometheus, in one text file that `REPORT_METRICS_FILE` names.

A run's process lives for seconds: nobody could scrape it, and a file or a registry for each would be thousands. So each
process adds what it has counted to one file, under a lock, and forgets it. The file needs no library and no port, and
its counters survive every process. node_exporter's textfile collector reads it.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

VARIABLE = "REPORT_METRICS_FILE"
PREFIX = "reportqueue_dagster_"
SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30)
"""The buckets of times."""
COUNTERS = {
    "claims_total": "Claims of sensors, by what they brought.",
    "claimed_rows_total": "Rows that sensors have claimed.",
    "run_requests_total": "Runs that queue sensors have requested, for one row or for several.",
    "launch_failures_total": "Rows that were reported because no run could be requested, or because it never started.",
    "lease_renewals_total": "Renewals of the leases of running rows, by their answer.",
    "call_failures_total": "Calls to the web app that it refused, or did not answer.",
}
CALL_SECONDS = "call_seconds"
HISTOGRAMS = {CALL_SECONDS: "How long calls to the web app took; that of a claim includes its wait for rows."}
MAX_BYTES = 1024 * 1024
"""A larger file is none of ours."""
LOCK_SECONDS = 0.5
"""How long a process waits for another one that writes. Then it keeps its counts for the next time."""
_SAMPLE = re.compile(r"(\w+(?:\{[^{}\n]*\})?) ([0-9.e+-]+)")
logger = logging.getLogger("dagster.reportqueue_counters")
_lock = threading.Lock()
_counted: dict[str, float] = {}
_warned = False


def count(name: str, number: float = 1, **labels: str) -> None:
    """Count something of `COUNTERS`; nothing without the variable. Labels have few values, which the code names."""
    if os.environ.get(VARIABLE):
        _add(_series(PREFIX + name, labels), number)


@contextmanager
def timed(name: str, **labels: str) -> Iterator[None]:
    """Measure how long the body takes, also if it raises."""
    if not os.environ.get(VARIABLE):
        yield
        return
    began = time.monotonic()
    try:
        yield
    finally:
        seconds = time.monotonic() - began
        for bound in (*SECONDS, float("inf")):
            edge = "+Inf" if bound == float("inf") else f"{bound:g}"
            _add(_series(f"{PREFIX}{name}_bucket", {**labels, "le": edge}), float(seconds <= bound))
        _add(_series(f"{PREFIX}{name}_sum", labels), seconds)
        _add(_series(f"{PREFIX}{name}_count", labels), 1)


@contextmanager
def saved() -> Iterator[None]:
    """Add what was counted to the file at the end, also after an error."""
    try:
        yield
    finally:
        save()


def save() -> None:
    """Add what this process has counted to the file. It never raises: what failed is tried again the next time."""
    global _warned
    path = os.environ.get(VARIABLE)
    if not path or not _counted:
        return
    with _lock:
        counted = dict(_counted)
        _counted.clear()
    try:
        done = _add_to(Path(path), counted)
    except (OSError, ValueError) as error:
        done = False
        if not _warned:
            _warned = True
            logger.warning("The counters cannot be written to %s, which %s names: %s", path, VARIABLE, error)
    if not done:
        for series, number in counted.items():
            _add(series, number)


def _add(series: str, number: float) -> None:
    with _lock:
        _counted[series] = _counted.get(series, 0) + number


def _add_to(path: Path, counted: dict[str, float]) -> bool:
    """Whether it was done: not while another process writes. Raises `OSError`, and `ValueError` for a strange file."""
    import fcntl  # the client alone works where there is none

    with path.with_name(f".{path.name}.lock").open("a") as lock:
        until = time.monotonic() + LOCK_SECONDS
        while True:
            with suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            if time.monotonic() > until:
                return False
            time.sleep(0.005)
        found = _read(path)
        for series, number in counted.items():
            found[series] = found.get(series, 0) + number
        # A reader sees the earlier file or this one, never a part. The name has no .prom: a collector ignores it.
        new = path.with_name(f".{path.name}.new")
        new.write_text(_text(found))
        new.chmod(0o644)
        new.replace(path)
    return True


def _read(path: Path) -> dict[str, float]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError("it is too large to be a file of these counters")
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return {}
    found = {}
    for line in lines:
        if line and not line.startswith("#"):
            sample = _SAMPLE.fullmatch(line)
            if sample is None or not sample[1].startswith(PREFIX):
                raise ValueError(f"it has a line that is no counter of these: {line[:100]!r}")
            found[sample[1]] = float(sample[2])
    return found


def _text(found: dict[str, float]) -> str:
    lines = []
    for kind, families in (("counter", COUNTERS), ("histogram", HISTOGRAMS)):
        for name, text in families.items():
            own = re.compile(rf"{PREFIX}{name}(_bucket|_sum|_count)?(\{{.*)?")
            samples = [f"{series} {number:.12g}" for series, number in found.items() if own.fullmatch(series)]
            if samples:
                lines += [f"# HELP {PREFIX}{name} {text}", f"# TYPE {PREFIX}{name} {kind}", *samples]
    return "".join(f"{line}\n" for line in lines)


def _series(name: str, labels: dict[str, str]) -> str:
    return name + ("{" + ",".join(f'{label}="{value}"' for label, value in labels.items()) + "}" if labels else "")


def _forked() -> None:
    """The parent counts what it has counted."""
    global _lock
    _lock = threading.Lock()
    _counted.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
