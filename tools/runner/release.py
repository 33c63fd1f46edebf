"""`run.py release`: checks a commit as a release, and leaves its files in `dist/`. It publishes nothing."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from urllib.parse import urlsplit

from packaging.version import InvalidVersion, Version

from project.environment import BASE_DIR
from reportqueue import __version__
from tools.runner import checks, packages, stop_signals

SOURCE = "reportqueue/__init__.py"
"""The file with the version."""
FIRST_SECTION = re.compile(r"^## (?P<version>\S+)(?: \((?P<day>.*)\))?$", re.MULTILINE)
UNRELEASED = "unreleased"
WHEEL = "REPORTQUEUE_TEST_WHEEL"
"""The variable with the wheel that tests/acceptance uses instead of building one."""
TESTS = ["tests/acceptance/test_wheel.py", "tests/acceptance/test_tutorial.py"]
"""The tests that are run with the built wheel."""


class Refused(Exception):
    """The commit may not be released as it is: what is wrong, and what to do."""

    def __init__(self, wrong: str, remedy: str) -> None:
        super().__init__(wrong)
        self.remedy = remedy


@dataclass
class Candidate:
    """What is checked, and the files that the steps have made of it."""

    folder: Path
    check: bool
    """Whether it is only checked: its section of the changelog may then be unreleased."""
    version: str = __version__
    checkout: Path = BASE_DIR
    commit: str = field(init=False)
    source: Path = field(init=False)
    """The files of the commit."""
    built: packages.Built = field(init=False)

    def git(self, *arguments: str) -> str:
        """What git says in the checkout."""
        command = ["git", *arguments]
        return subprocess.run(command, cwd=self.checkout, capture_output=True, text=True, check=True).stdout


def run(chosen: argparse.Namespace) -> int:
    """Do all steps, and stop at the first that fails; returns 0 only if all of them hold."""
    folder = Path(tempfile.mkdtemp(prefix="reportqueue-release-"))
    candidate = Candidate(folder, chosen.check)
    try:
        for number, (title, step) in enumerate(STEPS.items(), 1):
            print(f"--- {number} of {len(STEPS)}: {title}", flush=True)
            print(step(candidate), flush=True)
            stop_signals.check()
        print(f"release: {candidate.version} has passed" if chosen.check else _leave(candidate), flush=True)
    except Refused as refused:
        print(f"error: {refused}\nWhat to do: {refused.remedy}", file=sys.stderr)
        return 1
    except stop_signals.Stopped:
        return 130
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def working_tree(candidate: Candidate) -> str:
    """Refuse files that no commit has."""
    changed = candidate.git("status", "--porcelain", "--untracked-files=all").splitlines()
    if changed:
        named = "\n".join(f"  {line[3:]}" for line in changed)
        raise Refused(
            f"The working tree has changes that no commit has:\n{named}",
            "commit them, or put them away with `git stash --include-untracked`.",
        )
    candidate.commit = candidate.git("rev-parse", "HEAD").strip()
    return f"clean, at {candidate.git('log', '-1', '--format=%h %s').strip()}"


def version_and_changelog(candidate: Candidate) -> str:
    """Refuse a version that is none, that has been released, or that others do not have."""
    version = candidate.version
    try:
        written = str(Version(version))
    except InvalidVersion:
        raise Refused(f"{version} is no version by PEP 440.", f"write another one into {SOURCE}.") from None
    if written != version:
        raise Refused(f"PEP 440 writes {version} as {written}.", f"write it so in {SOURCE}.")
    section = FIRST_SECTION.search((candidate.checkout / "CHANGELOG.md").read_text())
    if section is None or section["version"] != version:
        raise Refused(
            f"The first section of CHANGELOG.md is not that of {version}.",
            f"begin with `## {version} ({UNRELEASED})` and what this version brings, or mend the version in {SOURCE}.",
        )
    _check_day(section["day"], unreleased_is_fine=candidate.check)
    description = candidate.checkout / "reportqueue" / "api" / "openapi" / "openapi.json"
    if (described := json.loads(description.read_text())["info"]["version"]) != version:
        raise Refused(
            f"The API's description is that of {described}.", "run `.venv/bin/python -m tools.openapi`, and commit."
        )
    tag = f"v{version}"
    if candidate.git("tag", "--list", tag) and tag not in candidate.git("tag", "--points-at", "HEAD").split():
        raise Refused(
            f"{tag} is the tag of another commit: this version has been released.",
            f"write the next version into {SOURCE}, and begin its section in CHANGELOG.md.",
        )
    return f"{version} ({section['day']})"


def _check_day(day: str | None, *, unreleased_is_fine: bool) -> None:
    if day == UNRELEASED:
        if unreleased_is_fine:
            return
        raise Refused(
            "CHANGELOG.md says that this version is unreleased.",
            f"write the day of the release instead of `{UNRELEASED}`, and commit. `release --check` needs no day.",
        )
    try:
        date.fromisoformat(day or "")
    except ValueError:
        raise Refused(
            "The first section of CHANGELOG.md has no day.",
            f"write it behind the version, as in `(2027-01-31)`, or write `({UNRELEASED})`.",
        ) from None


def two_builds(candidate: Candidate) -> str:
    """Build the commit twice."""
    candidate.source = packages.unpack(candidate.commit, candidate.folder / "source")
    with _remedy("find out what the build takes from the place, the time or the permissions of its files."):
        candidate.built = packages.build_twice(candidate.source, candidate.folder)
    return f"{candidate.built.sdist.name} and {candidate.built.wheel.name}: the same bytes each time"


def wheel_of_the_sdist(candidate: Candidate) -> str:
    """Build the wheel from the sdist."""
    with _remedy("let `tool.hatch.build.targets.sdist` in pyproject.toml include all that the wheel is built from."):
        packages.check_the_sdists_wheel(candidate.built, candidate.folder)
    return "the same wheel"


def page(candidate: Candidate) -> str:
    """Ask twine."""
    with _remedy("mend README.md, or the metadata in pyproject.toml."):
        packages.check_page(candidate.built)
    addresses = [
        text.partition(", ")[2] for text in packages.metadata(candidate.built.wheel).get_all("Project-URL", [])
    ]
    made_up = sorted({host for one in addresses if (host := urlsplit(one).netloc).endswith(".example")})
    if not made_up:
        return "an index would take both"
    if candidate.check:
        return f"an index would take both; {made_up[0]} is no real address yet"
    raise Refused(
        f"{made_up[0]} is no real address.",
        "write that of the project into pyproject.toml: the URLs and the substitutions.",
    )


def content(candidate: Candidate) -> str:
    """Compare with the commit."""
    with _remedy("mend `tool.hatch.build` in pyproject.toml, or the lists in tools/runner/packages.py."):
        count = packages.check_content(candidate.built, candidate.source, candidate.version)
    return f"{count} files in the wheel"


def installations(candidate: Candidate) -> str:
    """Install both files, each side in an environment of its own."""
    sdist, wheel = candidate.built
    for side, file in ((packages.DJANGO, wheel), (packages.DAGSTER, wheel), (packages.CLIENT, sdist)):
        with _remedy("mend what the message names: an extra in pyproject.toml, an import, or the network."):
            packages.install(side, file, candidate.folder, candidate.version)
        print(f"{file.name}[{side.extra}]", flush=True)
    return "each has what it needs, and not the framework of another side"


def documentation(candidate: Candidate) -> str:
    """Build the site."""
    code = checks.docs([])
    stop_signals.check()
    if code:
        raise Refused("The documentation's site is not whole.", "mend what is named above; `run.py docs` repeats this.")
    return "no warning"


def tests(candidate: Candidate) -> str:
    """Run the tests of an installed package with the built wheel."""
    os.environ[WHEEL] = str(candidate.built.wheel)
    try:
        code = checks.test(list(TESTS))
    finally:
        del os.environ[WHEEL]
    stop_signals.check()
    if code:
        raise Refused("A test has failed.", f"mend it; `run.py test {' '.join(TESTS)}` repeats them.")
    return "all passed"


STEPS: dict[str, Callable[[Candidate], str]] = {
    "the working tree": working_tree,
    "the version and the changelog": version_and_changelog,
    "two builds of the commit": two_builds,
    "the wheel from the sdist": wheel_of_the_sdist,
    "the page of the package index": page,
    "what is in the files": content,
    "installations": installations,
    "the documentation": documentation,
    "tests with this wheel": tests,
}
"""The quick ones first. Each returns what it has found, or raises `Refused`."""


def _leave(candidate: Candidate) -> str:
    """Leave the files in `dist/`; returns what to do with them."""
    target = candidate.checkout / "dist"
    target.mkdir(exist_ok=True)
    files = [Path(shutil.copy(file, target)) for file in candidate.built]
    sums = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}" for file in files]
    version, named = candidate.version, " ".join(f"dist/{file.name}" for file in files)
    (target / f"reportqueue-{version}.sha256").write_text("".join(f"{line}\n" for line in sums))
    return "\n".join(
        (
            f"release: the files of {version} are in {target}. Their SHA-256:",
            *sums,
            "Next, by you:",
            f"  git tag --annotate v{version} --message 'reportqueue {version}' {candidate.commit}",
            f"  git push origin v{version}",
            f"  .venv/bin/twine upload {named}",
            "Then docs/releases.md says how the next version begins.",
        )
    )


@contextmanager
def _remedy(text: str) -> Iterator[None]:
    """What to do if the package turns out to be unfit here."""
    try:
        yield
    except packages.Unfit as unfit:
        raise Refused(str(unfit), text) from None
