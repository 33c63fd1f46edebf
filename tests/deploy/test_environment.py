"""The environment variables in the files of deploy/: something reads each of them, and a page names each of ours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.deploy.files import (
    DEPLOY,
    KUBERNETES,
    MIGRATIONS,
    ROOT,
    applied,
    compose,
    dockerfiles,
    instructions,
    pods,
    secrets,
    units,
)

PAGES = "".join(
    path.read_text() for path in sorted((ROOT / "docs").glob("*.md")) if path.stem in ("settings", "celery")
)
READERS = (
    "project/settings.py",
    "project/environment.py",
    "dagster_reportqueue/environment.py",
    "dagster_reportqueue/counters.py",
)
FOREIGN = {
    "DAGSTER_HOME": "dagster",
    "DAGSTER_GRPC_MAX_WORKERS": "dagster",
    "DAGSTER_CURRENT_IMAGE": "dagster",
    "DJANGO_SETTINGS_MODULE": "django",
    "MPLCONFIGDIR": "matplotlib",
}
"""Those that an installed package reads."""
ELSEWHERE = {
    "PATH",
    "PYTHONPATH",
    "PYTHONUNBUFFERED",
    "PYTHONDONTWRITEBYTECODE",
    "POSTGRES_USER",
    "POSTGRES_PASSWORD",
    "POSTGRES_DB",
}
"""Those of the shell, of Python itself, and of the image of PostgreSQL."""


def maps() -> Iterator[tuple[str, str]]:
    """Each variable of Kubernetes, with where it is set."""
    sources = {one["metadata"]["name"]: one for one in [*applied(KUBERNETES), *applied(MIGRATIONS), *secrets()]}
    for name, pod in [*pods(applied(KUBERNETES)), *pods(applied(MIGRATIONS))]:
        (container,) = pod["spec"]["containers"]
        for variable in container.get("env", []):
            yield variable["name"], f"kubernetes {name}"
        for source in container.get("envFrom", []):
            (reference,) = source.values()
            one = sources[reference["name"]]
            for variable in {**one.get("data", {}), **one.get("stringData", {})}:
                yield variable, f"kubernetes {reference['name']}"


def variables() -> dict[str, str]:
    """Each variable that a file of deploy/ sets, with one place where it is."""
    found = dict(maps())
    for name, service in compose()["services"].items():
        found |= dict.fromkeys(service.get("environment", {}), f"compose.yaml {name}")
    for unit in units():
        found |= dict.fromkeys(unit.variables, unit.name)
    for path in (DEPLOY / "systemd").glob("*.env.example"):
        found |= dict.fromkeys(re.findall(r"^#?([A-Z_]+)=", path.read_text(), re.MULTILINE), path.name)
    for path in dockerfiles():
        for instruction, text in instructions(path):
            if instruction == "ENV":
                found |= dict.fromkeys(re.findall(r"(\w+)=", text), path.name)
    for path in DEPLOY.rglob("dagster.yaml"):
        found |= dict.fromkeys(re.findall(r"env: (\w+)", path.read_text()), str(path.relative_to(DEPLOY)))
    return found


SET = variables()


def read_here() -> set[str]:
    """The variables that our code names, and those that the dagster.yaml files name."""
    found = set()
    for reader in READERS:
        found |= set(re.findall(r'"([A-Z][A-Z0-9_]+)"', (ROOT / reader).read_text()))
    for path in DEPLOY.rglob("dagster.yaml"):
        found |= set(re.findall(r"env: (\w+)", path.read_text()))
    return found


def test_there_are_some_of_each_kind():
    assert {"SECRET_KEY", "DATABASE_URL", "LISTEN_DATABASE_URL", "REPORTQUEUE_URL", "REPORTQUEUE_TOKEN"} <= set(SET)
    assert {place.partition(" ")[0] for place in SET.values()} >= {"kubernetes", "compose.yaml"}


@pytest.mark.parametrize("name", sorted(SET))
def test_something_reads_it(name: str):
    if name in FOREIGN:
        spec = find_spec(FOREIGN[name])
        assert spec is not None
        assert spec.origin is not None
        files = Path(spec.origin).parent.rglob("*.py")
        assert any(name in path.read_text(errors="replace") for path in files), f"{FOREIGN[name]} does not read {name}"
    else:
        assert name in ELSEWHERE | read_here(), f"nothing reads {name}, which {SET[name]} sets"


@pytest.mark.parametrize("name", sorted(set(SET) - set(FOREIGN) - ELSEWHERE))
def test_a_page_says_what_it_is(name: str):
    assert f"`{name}`" in PAGES, f"docs/settings.md does not name {name}"


def test_the_web_app_and_dagster_have_what_they_cannot_do_without():
    services = compose()["services"]
    assert {"SECRET_KEY", "DATABASE_URL", "ALLOWED_HOSTS"} <= set(services["web"]["environment"])
    for name in ("dagster-code", "dagster-daemon", "dagster-webserver"):
        assert {"DAGSTER_DATABASE_URL", "REPORTQUEUE_URL", "REPORTQUEUE_TOKEN"} <= set(services[name]["environment"])
