"""The sdist and the wheel: built from a commit, compared with a second build, looked into, and installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from email.message import Message
from email.parser import Parser
from pathlib import Path
from typing import NamedTuple

from project.environment import BASE_DIR
from tools.runner import environments, stop_signals
from tools.runner.venv import clean_environment

PACKAGES = ("reportqueue", "dagster_reportqueue", "reportcron")
IN_SDIST = {
    *PACKAGES,
    *("docs", "deploy", "README.md", "CHANGELOG.md", "SECURITY.md", "LICENSE"),
    *("pyproject.toml", ".gitignore"),
}
MADE = {"PKG-INFO"}
"""What the build adds to the sdist."""
IN_WHEEL = (
    "reportqueue/migrations/0*.py",
    "reportqueue/locale/*/LC_MESSAGES/*.mo",
    "reportqueue/templates/**/*.html",
    "reportqueue/static/**/*.css",
    "reportqueue/static/**/*.js",
    "reportqueue/api/openapi/openapi.json",
    *(f"{package}/py.typed" for package in PACKAGES),
)
"""Files that are no modules and that a build could forget."""
ANOTHER_TIME = 1_000_000_000
"""In September 2001."""


class Unfit(Exception):
    """A package may not be released as it is; the message says what is wrong with it."""


class Side(NamedTuple):
    """What is installed in an environment of its own."""

    extra: str
    statement: str
    """Imports what this extra is for."""
    absent: tuple[str, ...]
    """Packages that must not be there."""


DJANGO = Side(
    "django",
    "from django.conf import settings; settings.configure(INSTALLED_APPS=['django.contrib.auth', "
    "'django.contrib.contenttypes', 'rest_framework', 'reportqueue'], DATABASES={'default': {'ENGINE': "
    "'django.db.backends.postgresql'}}); import django; django.setup(); import reportqueue.api.urls, reportqueue.queue",
    ("dagster",),
)
DAGSTER = Side(
    "dagster",
    "import dagster_reportqueue as found, dagster_reportqueue.warm.launcher; "
    "[getattr(found, name) for name in found.__all__]",
    ("django", "rest_framework"),
)
CLIENT = Side(
    "client", "from dagster_reportqueue.client import ReportQueueClient", ("django", "rest_framework", "dagster")
)
OURS_ALONE = ("project", "orchestrator", "tools", "tests")
"""Packages of the checkout that no distribution has."""


class Built(NamedTuple):
    """The files that a build has made."""

    sdist: Path
    wheel: Path


def unpack(revision: str, folder: Path) -> Path:
    """The files of a commit, in a new folder."""
    folder.mkdir()
    archive = subprocess.run(["git", "archive", revision], cwd=BASE_DIR, capture_output=True, check=True)  # noqa: S607
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)  # noqa: S607
    return folder


def build(source: Path, target: Path) -> Built:
    """Build both from a folder. Raises `Unfit` with what the builder says."""
    variables = {name: value for name, value in clean_environment().items() if name != "SOURCE_DATE_EPOCH"}
    _run(sys.executable, "-m", "hatchling", "build", "-d", str(target), cwd=source, variables=variables)
    (sdist,), (wheel,) = target.glob("*.tar.gz"), target.glob("*.whl")
    return Built(sdist, wheel)


def build_twice(source: Path, folder: Path) -> Built:
    """Build both, and again at another place, from files with other times and permissions.

    Raises `Unfit` if the second build has other bytes.
    """
    first = build(source, folder / "first")
    elsewhere = shutil.copytree(source, folder / "elsewhere", copy_function=shutil.copyfile)
    for path in elsewhere.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
        os.utime(path, (ANOTHER_TIME, ANOTHER_TIME))
    for one, other in zip(first, build(elsewhere, folder / "second"), strict=True):
        _check_equal(one, other, "A second build has another file")
    return first


def check_the_sdists_wheel(built: Built, folder: Path) -> None:
    """Build the wheel from the sdist, in a folder. Raises `Unfit` if it has other bytes."""
    with tarfile.open(built.sdist) as archive:
        archive.extractall(folder / "sdist", filter="data")
    (source,) = (folder / "sdist").iterdir()
    _check_equal(built.wheel, build(source, folder / "third").wheel, "The wheel from the sdist is another one")


def metadata(wheel: Path) -> Message:
    """What the wheel says of itself; its payload is the page of the package index."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return Parser().parsestr(archive.read(name).decode())


def check_page(built: Built) -> None:
    """Ask twine whether a package index would take both, and could show their page. Raises `Unfit`."""
    _run(sys.executable, "-m", "twine", "check", "--strict", *map(str, built), cwd=built.wheel.parent)


def check_content(built: Built, source: Path, version: str) -> int:
    """Compare what both have with the files of the source; returns the number of files in the wheel. Raises `Unfit`."""
    files = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    _check_names({name for name in files if name.split("/")[0] in IN_SDIST} | MADE, _sdist_names(built), "sdist")
    info = f"reportqueue-{version}.dist-info/"
    names = {name for name in _members(built.wheel) if not name.startswith(info)}
    _check_names({name for name in files if name.split("/")[0] in PACKAGES}, names, "wheel")
    if missing := [pattern for pattern in IN_WHEEL if not any(source.glob(pattern))]:
        raise Unfit(f"The wheel has no {', '.join(missing)}.")
    return len(names)


def install(side: Side, file: Path, folder: Path, version: str) -> None:
    """Install a file with an extra in an environment of its own, and import what that is for. Raises `Unfit`."""
    place, pins = folder / side.extra, environments.write_pins(folder / "pins.txt")
    python = place / "bin" / "python"
    try:
        environments.uv("venv", "--quiet", "--python", sys.executable, str(place))
        environments.uv(
            *("pip", "install", "--quiet", "--python", str(python)),
            *("--constraint", str(pins), "--build-constraint", str(pins)),
            f"reportqueue[{side.extra}] @ {file.as_uri()}",
        )
        environments.uv("pip", "check", "--quiet", "--python", str(python))
    except environments.UvFailed as error:
        raise Unfit(f"{file.name}[{side.extra}] cannot be installed:\n{error}") from None
    probe = (
        "from importlib.metadata import version; from importlib.util import find_spec; "
        f"assert version('reportqueue') == {version!r}; {side.statement}; "
        f"assert not (there := [name for name in {(*side.absent, *OURS_ALONE)!r} if find_spec(name)]), there"
    )
    _run(str(python), "-I", "-c", probe, cwd=folder)


def _check_equal(one: Path, other: Path, text: str) -> None:
    if one.name == other.name and one.read_bytes() == other.read_bytes():
        return
    here, there = _members(one), _members(other)
    differing = sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name))
    raise Unfit(f"{text}: {one.name} and {other.name} differ in {', '.join(differing) or 'their headers'}.")


def _members(path: Path) -> Mapping[str, bytes]:
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            return {name: wheel.read(name) for name in wheel.namelist()}
    with tarfile.open(path) as archive:
        files = {member.name: archive.extractfile(member) for member in archive if member.isfile()}
        return {name: file.read() for name, file in files.items() if file is not None}


def _sdist_names(built: Built) -> set[str]:
    return {name.partition("/")[2] for name in _members(built.sdist)}


def _check_names(wanted: set[str], found: set[str], kind: str) -> None:
    if missing := wanted - found:
        raise Unfit(f"The {kind} has no {', '.join(sorted(missing))}.")
    if more := found - wanted:
        raise Unfit(f"The {kind} has {', '.join(sorted(more))}, which does not belong there.")


def _run(program: str, *arguments: str, cwd: Path, variables: Mapping[str, str] | None = None) -> None:
    """Run a program. Raises `Unfit` with its last lines if it fails, or `Stopped`."""
    variables = {**(clean_environment() if variables is None else variables), "NO_COLOR": "1"}
    done = subprocess.run([program, *arguments], cwd=cwd, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        stop_signals.check()
        raise Unfit(
            f"{Path(program).name} {' '.join(arguments[:3])} has failed:\n{(done.stdout + done.stderr)[-2_000:]}"
        )
