"""The README's users, tokens and call, as they are pasted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.core.management import call_command
from django.test import Client

README = (Path(__file__).parents[2] / "README.md").read_text()


@pytest.mark.django_db
def test_the_users_of_the_readme_may_do_what_it_says_they_do(capsys: pytest.CaptureFixture[str]):
    (body, path) = re.findall(r"-d '(\{.*\})' http://127\.0\.0\.1:8000(/\S+)$", README, re.MULTILINE)[0]
    tokens = {}
    for name, option in re.findall(r"create_consumer (\w+)(?: (--\w+))?", README):
        call_command("create_consumer", name, *filter(None, [option]))
        tokens[name] = capsys.readouterr().out.strip()

    def ask(name: str, path: str, body: str | None = None) -> int:
        client = Client(headers={"Authorization": f"Token {tokens[name]}"})
        answer = client.get(path) if body is None else client.post(path, body, content_type="application/json")
        return int(answer.status_code)

    assert ask("shop", path, body) == 201
    assert ask("dagster", "/api/report-queue/claim/", '{"consumer": "lane"}') == 200
    for read in ("report-queue/", "pending-reports/", "reports/?pattern=cron"):
        assert ask("dagster", f"/api/{read}") == 200, read
    assert (ask("dagster", path, body), ask("shop", path)) == (403, 403), "a token that may more than it needs"
