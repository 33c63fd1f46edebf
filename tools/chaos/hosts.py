"""The hosts on which an engine makes runs, and how they die. Their processes speak over wires that can be cut."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from tools.chaos import points
from tools.chaos.deck import Deck
from tools.chaos.engine import Engine
from tools.chaos.wire import Wires, to_port, to_socket

if TYPE_CHECKING:
    from tools.chaos.system import System

CUT_SECONDS = 2.5 * points.LEASE_SECONDS
"""How long a host is cut off: the leases of its runs end meanwhile, and their rows are made elsewhere."""
AWAY_SECONDS = (0.0, 1.0, 4.0)
"""How long something stays away that was killed."""
AT_WORK_SECONDS = 15.0
"""How long a fault waits for a host that has runs at work."""


class Host:
    """A machine's name, and the addresses at which its processes reach the web app and Dagster's database."""

    def __init__(self, name: str, web_url: str, dagster_url: str) -> None:
        self.name = name
        self.wires = Wires()
        web = self.wires.lay(to_port(urlsplit(web_url).port or 0))
        parts = urlsplit(dagster_url)
        query = parse_qs(parts.query)
        postgres = self.wires.lay(to_socket(str(Path(query["host"][0]) / f".s.PGSQL.{query['port'][0]}")))
        self.environment = {
            "REPORTQUEUE_URL": f"http://127.0.0.1:{web}",
            "DAGSTER_DATABASE_URL": f"{parts.scheme}://{parts.username}@127.0.0.1:{postgres}{parts.path}",
        }


class EngineOnHosts(Engine):
    """Runs are made on two hosts."""

    slots = 8
    hosts: list[Host]

    def __init__(self, system: System) -> None:
        super().__init__(system)
        self.hosts = []
        self.faults: Deck[Callable[[list[int]], None]] = Deck(
            (self._kill_host, self._cut_off, *self._further()), system.chance
        )

    def close(self) -> None:
        """Give the wires' ports back."""
        for host in self.hosts:
            host.wires.close()

    def strike(self, rows: list[int]) -> None:
        """Each kind of fault in turn."""
        self.faults.draw()(rows)

    def runs_on(self, host: Host) -> list[int]:
        """The processes of the runs that a host makes."""
        raise NotImplementedError

    def kill(self, host: Host) -> None:
        """SIGKILL to all that is on the host."""
        raise NotImplementedError

    def revive(self, host: Host) -> None:
        """Start it again."""
        raise NotImplementedError

    def _further(self) -> tuple[Callable[[list[int]], None], ...]:
        raise NotImplementedError

    def _kill_host(self, rows: list[int]) -> None:
        host = self._at_work()
        pids = self.runs_on(host)
        self.system.ledger.fault(points.HOST_KILLED, self.system.rules.rows_of(pids), pids=pids)
        self.kill(host)
        time.sleep(self.system.chance.choice(AWAY_SECONDS))
        self.revive(host)

    def _cut_off(self, rows: list[int]) -> None:
        host = self._at_work()
        self.system.ledger.fault(points.HOST_CUT_OFF, rows, outage=True)
        host.wires.cut()
        time.sleep(CUT_SECONDS)
        host.wires.mend()

    def _at_work(self) -> Host:
        """A host whose runs have started their rows; after a while, any."""
        until = time.monotonic() + AT_WORK_SECONDS
        hosts = self.system.chance.sample(self.hosts, len(self.hosts))
        while time.monotonic() < until:
            for host in hosts:
                if self.system.rules.rows_of(self.runs_on(host)):
                    return host
            time.sleep(0.05)
        return hosts[0]
