"""Kept connections: asked whether they work when they might not, and not each time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest
from dagster import DagsterInstance, instance_for_test
from sqlalchemy import event, text

from dagster_reportqueue import pooling


@pytest.fixture
def pooled(storage: dict[str, Any]) -> Iterator[DagsterInstance]:
    with instance_for_test(storage) as instance:
        pooling.pool_connections(instance)
        yield instance
        pooling.close_connections(instance)


def engine(instance: DagsterInstance) -> Any:
    return instance.run_storage._engine  # type: ignore[attr-defined]


def pid(instance: DagsterInstance) -> int:
    with engine(instance).connect() as connection:
        return int(connection.execute(text("SELECT pg_backend_pid()")).scalar())


def terminate(instance: DagsterInstance, number: int) -> None:
    url = instance.run_storage.postgres_url.replace("+psycopg2", "")  # type: ignore[attr-defined]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(%s, 5000)", [number])


def test_a_connection_is_kept(pooled: DagsterInstance):
    assert len({pid(pooled) for _ in range(5)}) == 1


def test_as_many_are_kept_as_were_used_at_the_same_time(pooled: DagsterInstance):
    def pids(number: int) -> set[int]:
        with ExitStack() as stack:
            used = [stack.enter_context(engine(pooled).connect()) for _ in range(number)]
            return {int(one.execute(text("SELECT pg_backend_pid()")).scalar()) for one in used}

    most = pooling.KEPT_CONNECTIONS
    before = pids(most + 2)
    assert pids(most) < before
    assert len(pids(most + 2) - before) == 2
    pooling.close_connections(pooled)
    assert pids(most) == pids(most), "also after all were closed"


def test_one_that_the_server_has_ended_is_replaced_at_once(pooled: DagsterInstance):
    before = pid(pooled)
    terminate(pooled, before)
    assert pid(pooled) != before


@pytest.mark.parametrize(("trusted", "expected"), [(60.0, 0), (0.0, 4)])
def test_it_is_asked_only_after_a_while(
    pooled: DagsterInstance, monkeypatch: pytest.MonkeyPatch, trusted: float, expected: int
):
    pid(pooled)
    monkeypatch.setattr(pooling, "TRUSTED_SECONDS", trusted)
    asked = []

    class Asked:
        def __init__(self, connection: Any) -> None:
            self._connection = connection

        def fileno(self) -> int:
            return int(self._connection.fileno())

        def cursor(self) -> Any:
            asked.append(1)
            return self._connection.cursor()

    check = pooling._check
    for one in pooling._engines(pooled):
        event.remove(one, "checkout", check)
        event.listen(one, "checkout", lambda connection, record, proxy: check(Asked(connection), record, proxy))
    for _ in range(4):
        pid(pooled)
    assert len(asked) == expected
