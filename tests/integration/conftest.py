"""What holds in every test of the app: the statements that it sends are right on every supported PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection
from rest_framework.test import APIClient

from tests import openapi


@pytest.fixture(autouse=True)
def _no_doubled_braces() -> Iterator[None]:
    """Fail for `{{` in a statement: a template that was formatted once too seldom. PostgreSQL 18 forgives `'{{}}'`."""

    def refuse(execute: Callable[..., Any], sql: Any, *rest: Any) -> Any:
        assert "{{" not in str(sql), sql
        assert "}}" not in str(sql), sql
        return execute(sql, *rest)

    with connection.execute_wrapper(refuse):
        yield


@pytest.fixture(autouse=True)
def _as_described(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail for an answer of the API that its description does not have. Large answers are left out: they take long."""
    send = APIClient.request

    def checked(self: APIClient, **options: Any) -> Any:
        response = send(self, **options)
        if not response.streaming and len(response.content) < 20_000:
            openapi.check(response)
        return response

    monkeypatch.setattr(APIClient, "request", checked)
