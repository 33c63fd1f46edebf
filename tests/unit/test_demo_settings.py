"""The demo's settings: what they take from the environment, and what they refuse."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def start(data: Path, shown: str = "SECRET_KEY", **variables: str) -> subprocess.CompletedProcess[str]:
    """Load the settings in a process of its own, with a data folder and these variables; it prints one of them."""
    kept = {name: value for name, value in os.environ.items() if name not in ("SECRET_KEY", "DEBUG")}
    environment = kept | {"REPORTQUEUE_DATA_DIR": str(data), "DJANGO_SETTINGS_MODULE": "project.settings"} | variables
    code = f"from django.conf import settings; print(settings.{shown})"
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("variables", [{}, {"SECRET_KEY": ""}, {"DEBUG": ""}, {"DEBUG": "0"}, {"DEBUG": "true"}])
def test_without_a_key_nothing_starts_and_the_message_names_the_variable(tmp_path: Path, variables: dict[str, str]):
    refused = start(tmp_path, **variables)
    assert refused.returncode != 0
    assert refused.stdout == ""
    said = refused.stderr.strip().splitlines()[-1]
    assert "ImproperlyConfigured: The environment variable SECRET_KEY is not set" in said
    assert "secrets.token_urlsafe" in said


def test_the_key_comes_from_the_environment_or_from_the_demo(tmp_path: Path):
    assert start(tmp_path, SECRET_KEY="own").stdout == "own\n"
    (tmp_path / "demo.json").write_text('{"SECRET_KEY": "of the demo"}')
    assert start(tmp_path).stdout == "of the demo\n"
    assert start(tmp_path, SECRET_KEY="own").stdout == "own\n"


def test_on_a_persons_own_machine_debug_is_enough(tmp_path: Path):
    key = start(tmp_path, DEBUG="1")
    assert key.returncode == 0, key.stderr
    assert key.stdout.startswith("django-insecure-")  # `check --deploy` warns of it


def test_behind_a_proxy_that_ends_tls_cookies_are_secure_and_its_header_is_believed(tmp_path: Path):
    shown = "SESSION_COOKIE_SECURE, settings.CSRF_COOKIE_SECURE, settings.SECURE_PROXY_SSL_HEADER"
    assert start(tmp_path, shown, SECRET_KEY="own").stdout == "False False None\n"
    behind = start(tmp_path, shown, SECRET_KEY="own", BEHIND_TLS="1")
    assert behind.stdout == "True True ('HTTP_X_FORWARDED_PROTO', 'https')\n"


def test_the_origins_of_forms_are_a_list(tmp_path: Path):
    assert start(tmp_path, "CSRF_TRUSTED_ORIGINS", SECRET_KEY="own").stdout == "[]\n"
    two = start(
        tmp_path, "CSRF_TRUSTED_ORIGINS", SECRET_KEY="own", CSRF_TRUSTED_ORIGINS="https://a.test,https://b.test"
    )
    assert two.stdout == "['https://a.test', 'https://b.test']\n"


@pytest.mark.parametrize("text", ["bucket", "[]", "1", '{"bucket_name": '])
def test_options_of_the_storage_that_are_none_are_refused_with_the_variable(tmp_path: Path, text: str):
    refused = start(tmp_path, SECRET_KEY="own", ARTIFACT_STORAGE_OPTIONS=text)
    assert refused.returncode != 0
    assert "ARTIFACT_STORAGE_OPTIONS must be a JSON object" in refused.stderr.strip().splitlines()[-1]


def test_behind_a_pool_the_claims_listen_on_a_connection_of_their_own(tmp_path: Path):
    shown = "REPORTQUEUE['LISTEN_DATABASE'], [(one.get('PORT'), one.get('DISABLE_SERVER_SIDE_CURSORS')) for one in {}]"
    shown = shown.format("settings.DATABASES.values()")
    pooled = {"SECRET_KEY": "own", "DATABASE_URL": "postgresql://web@pool:6432/reports"}
    assert start(tmp_path, shown, **pooled).stdout == " [('6432', None)]\n"
    both = start(tmp_path, shown, **pooled, LISTEN_DATABASE_URL="postgresql://web@db:5432/reports")
    assert both.stdout == "direct [('6432', True), ('5432', None)]\n"
