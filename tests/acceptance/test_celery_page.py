"""docs/celery.md, from an empty folder to two reports that two workers have made."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.acceptance.conftest import drop_databases, libpq, new_database, short_folder
from tests.acceptance.demos import processes_on, wait_for
from tests.acceptance.roads import Road
from tests.acceptance.terminals import Terminal
from tests.dagster_reportqueue.celery import redis_server
from tests.documents import Block, blocks
from tools.runner.stack import answers, free_port

pytestmark = pytest.mark.timeout(1800)  # an installation takes long on a busy machine
PAGE = "docs/celery.md"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Redis server."""
    with redis_server(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture
def terminal(road: Road, broker: str) -> Iterator[Terminal]:
    """A terminal in an empty folder, beside the README's web app, which runs."""
    road.follow_django_side()
    with short_folder() as folder:
        made = Terminal(folder, {**road.django._start, "SHOP_TOKEN": road.token("shop")})
        try:
            yield made
        finally:
            made.stop()
            left = processes_on(folder)
    assert not left, "Ctrl-C has left these"


def test_two_workers_make_the_reports_of_the_page(terminal: Terminal, road: Road, broker: str):
    database, port = new_database(), free_port()
    before = len(road.rows())
    replaced = [
        *road.substitutions,
        ("redis://127.0.0.1:6379", broker),
        ('"postgresql+psycopg2:///dagster"', f"'postgresql+psycopg2:///{libpq(database)['PGDATABASE']}'"),
        ("REPORTQUEUE_TOKEN=...", f"REPORTQUEUE_TOKEN={road.token('dagster')}"),
        (f"dagster dev --port {road.ui}", f"dagster dev --port {port}"),
    ]

    def text(block: Block) -> str:
        written = block.text
        for old, new in replaced:
            written = written.replace(old, new)
        return written

    def is_ready(number: int, line: str) -> bool:
        if line.startswith("celery"):
            return " ready." in terminal.servers[number].printed
        return answers(f"http://127.0.0.1:{port}/server_info")

    try:
        for block in [block for block in blocks(PAGE, "sh", "python", "yaml") if block.run_by]:
            saved = re.search(r"Save this as `(\S+)`", block.before)
            if saved is not None:
                path = terminal.home / saved[1]
                path.parent.mkdir(exist_ok=True)
                path.write_text(text(block))
            elif block.text.startswith("celery"):
                for number, line in enumerate(text(block).splitlines()):
                    terminal.serve(line, lambda number=number, line=line: is_ready(number, line))  # type: ignore[misc]
            else:
                terminal.run(text(block))
        wait_for("the reports", lambda: [row["status"] for row in road.rows()[before:]] == ["succeeded"] * 2, 300)
        made_by = {row["result"]["made by"].rpartition(" ")[2] for row in road.rows()[before:]}
        assert made_by == {str(server.process.pid) for server in terminal.servers[:2]}
    finally:
        terminal.stop()
        drop_databases(database)
