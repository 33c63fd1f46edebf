"""Django projects of others, which know nothing of this checkout."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.acceptance.demos import clean_environment
from tests.dagster_reportqueue.waiting import until
from tools.runner.stack import answers, free_port

PIP = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
APPS = """
INSTALLED_APPS += ["django.contrib.postgres", "rest_framework", "reportqueue"]
"""
URLS = """
from django.urls import include

urlpatterns += [path("api/", include("reportqueue.api.urls")), path("", include("reportqueue.health"))]
"""


def start_project(django: str, home: Path, settings: str = "") -> None:
    """Somebody's Django project `theirs`, set up as the README says; `settings` is added to its own."""
    home.mkdir()
    python(django, "-m", "django", "startproject", "theirs", ".", cwd=home)
    with (home / "theirs" / "settings.py").open("a") as file:
        file.write(APPS + settings)
    with (home / "theirs" / "urls.py").open("a") as urls:
        urls.write(URLS)


@contextmanager
def served(django: str, home: Path, variables: Mapping[str, str]) -> Iterator[str]:
    """Their web app: yields its address."""
    port = free_port()
    web = subprocess.Popen(
        [django, "manage.py", "runserver", "--noreload", f"127.0.0.1:{port}"],
        cwd=home,
        env=clean_environment(**variables),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: answers(f"http://127.0.0.1:{port}/healthz"), 60, what="the web app")
        yield f"http://127.0.0.1:{port}"
    finally:
        web.terminate()
        web.wait(30)


def python(program: str, *arguments: str, cwd: Path, variables: Mapping[str, str] | None = None) -> str:
    """What a Python prints, which must succeed."""
    done = run(program, *arguments, cwd=cwd, variables=variables or {})
    assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
    return done.stdout


def run(program: str, *arguments: str, cwd: Path, variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a Python in a user's environment with these variables."""
    return subprocess.run(
        [program, *arguments],
        cwd=cwd,
        env=clean_environment(**variables),
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
