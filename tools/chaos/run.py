"""The whole thing: start the system, let the waves come until the time is up, judge, print, clean up."""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from tools.chaos import judge, ledger, points, report
from tools.chaos.caps import Caps
from tools.chaos.deaths import Deaths
from tools.chaos.system import System, remove
from tools.chaos.waves import Waves
from tools.runner import stop_signals
from tools.runner.processes import ChildFailed

ROUND_SECONDS = 420.0
"""What all waves take together at their whole size, with some time to spare."""


def chaos(
    minutes: float,
    seed: int | None = None,
    engine: str = points.HARNESS,
    only: str | None = None,
    *,
    capped: bool = False,
) -> int:
    """Exit code 0 if no row was lost, done twice or stuck; 1 if one was, 2 if the system could not be run at all.

    `only` names the one wave that comes, over and over, of `points.WAVES`. If it is `capped`, some rows are of reports
    with caps, and it is an error if more of them are under way at once.
    """
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:5.0f} s  {text}", flush=True)

    say(f"seed {seed}: repeat with --seed {seed}")
    folder = Path(tempfile.mkdtemp(prefix="reportqueue-chaos-"))
    os.environ["CHAOS_LEDGER"] = str(folder / "ledger.jsonl")
    chance = random.Random(seed)
    system = System(folder, chance, engine)
    waves: Waves | None = None
    code = 2
    try:
        system.start()
        say("everything is up")
        waves = Waves(system, seed, say)
        caps = Caps(system) if capped else None
        # The warm parent reaps what it forks.
        with nullcontext() if system.engine.reaps else Deaths(system.ledger_path), caps or nullcontext():
            if caps is not None:
                waves.report_of = caps.report_of
            _run_waves(waves, engine, began + 60 * minutes, only)
            time.sleep(judge.WAKE_SECONDS)  # for runs that have just been woken up
        within = caps is None or caps.judge(say)
        code = max(_judge(system, waves, only, say), 0 if within else 1)
    except stop_signals.Stopped:
        say(f"stopped by signal {stop_signals.noted()}")
        code = 130
    except (ChildFailed, TimeoutError, OSError) as error:
        say(f"error: {type(error).__name__}: {error}")
        raise
    finally:
        if waves is not None:
            waves.close()
        system.stop()
        if code in (0, 130):
            remove(folder)
        else:
            print(f"logs and ledger: {folder}", file=sys.stderr)
    return code


def _run_waves(waves: Waves, engine: str, until: float, only: str | None) -> None:
    """Each kind of wave at least once; the last ones smaller, as the time is short."""
    kinds: dict[str, Callable[[float], None]] = {
        points.CRASHES: lambda size: waves.crashes(round(64 * size), 110 * size),
        points.LOSSES: lambda size: waves.network(round(40 * size), 40 * size),
        points.OUTAGES: lambda size: waves.outages(max(5, round(20 * size))),
        points.BAD_REPORTS: waves.bad_reports,
        points.ENGINE: lambda size: waves.engine(max(5, round(20 * size))),
    }
    size = min(1.0, max(0.2, (until - time.monotonic()) / ROUND_SECONDS))
    while True:
        before = time.monotonic()
        for name, wave in kinds.items():
            if only in (None, name) and points.reached(engine, name):
                wave(size)
        took, left = time.monotonic() - before, until - time.monotonic()
        if left < took / 4:
            return
        size = min(1.0, 0.9 * size * left / took)


def _judge(system: System, waves: Waves, only: str | None, say: Callable[[str], None]) -> int:
    waves.close()
    attempts: dict[int, list[Any]] = defaultdict(list)
    for attempt in system.query(
        "SELECT queue_id, attempt, generation, run_id, parent_run_id, worker, outcome, error, started_at::text,"
        " finished_at::text FROM reportqueue_reportattempt ORDER BY id"
    ):
        attempts[attempt["queue_id"]].append(attempt)
    rows = {
        row["id"]: judge.Row(
            row["status"],
            frozenset(one["run_id"] for one in attempts[row["id"]] if one["outcome"] == "succeeded"),
        )
        for row in system.query("SELECT id, status FROM reportqueue_reportqueue")
    }
    lines = ledger.read(system.ledger_path)
    bad = judge.judge(lines, rows, {*waves.wanted, *rows})
    text, fine = report.table(lines, bad, points.reached(system.engine.name, only))
    undelivered = judge.undelivered(lines, rows)
    say(
        f"{len(rows)} rows, {sum(map(len, attempts.values()))} attempts; {undelivered} works ended well in runs that"
        " were killed, frozen or cut off before they could say so"
    )
    print(text, flush=True)
    if not fine:
        (system.folder / "histories.txt").write_text(found := report.histories(lines, bad, attempts))
        print(found[:20_000], flush=True)
    return 0 if fine else 1
