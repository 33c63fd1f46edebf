"""Where scenarios are played: a prepared database, and the product's modules with the simulated machine in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from reportqueue import tokens
from tools.simulator import mutations
from tools.simulator.database import TOKEN, Database, prepare
from tools.simulator.machine import installed
from tools.simulator.outcome import Outcome, Plan
from tools.simulator.scenario import play


@contextmanager
def stage(put_back: str | None = None) -> Iterator[Callable[[Plan], Outcome]]:
    """Prepare Django's database, which is empty; yields a function that plays a plan.

    `put_back` names a mended fault that the product has again meanwhile.
    """
    prepare()
    database = Database()
    with installed(), database.installed(), mutations.installed(put_back):
        # It is remembered. In the first scenario alone it would be one statement more, and the faults others.
        tokens.authenticate(TOKEN)
        yield lambda plan: play(plan, database)
