"""Deaths that nobody reaps for the ledger are written down by whoever watches."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.dagster_reportqueue.waiting import until
from tools.chaos.deaths import Deaths
from tools.chaos.ledger import Ledger, read


@pytest.mark.parametrize("kill", [True, False], ids=["killed", "ended"])
def test_a_death_is_written_down_with_its_signal_if_a_fault_caused_it(tmp_path: Path, kill: bool):
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process, Deaths(path):
        ledger.write("begin", row=1, run="a", pid=process.pid)
        if kill:
            ledger.fault("killed", [1], pids=[process.pid])
            process.kill()
        else:
            process.communicate(b"\n")
        until(lambda: any(line["kind"] == "death" for line in read(path)), 20, what="the death")
    (death,) = [line for line in read(path) if line["kind"] == "death"]
    assert (death["run"], death["pid"], death["signal"]) == ("a", process.pid, 9 if kill else 0)
