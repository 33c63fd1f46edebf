"""Wheel and sdist as they are published: their page, their content, and the same bytes from every build."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

from tests.acceptance.demos import ROOT, clean_environment

PACKED = ("reportqueue", "dagster_reportqueue", "reportcron", "docs", "deploy")
FILES = ("pyproject.toml", ".gitignore", "README.md", "CHANGELOG.md", "SECURITY.md", "LICENSE")


def build(source: Path, target: Path) -> list[Path]:
    """The sdist and the wheel, in this order."""
    done = run(sys.executable, "-m", "hatchling", "build", "-d", str(target), cwd=source)
    assert done.returncode == 0, done.stderr
    return sorted(target.iterdir(), key=lambda path: path.suffix == ".whl")


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, env=clean_environment(), capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def built(folder: Path) -> list[Path]:
    """The sdist and the wheel of this checkout."""
    return build(ROOT, folder / "package")


@pytest.fixture(scope="module")
def metadata(built: list[Path]) -> Message:
    """Of the wheel."""
    with zipfile.ZipFile(built[1]) as wheel:
        (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
        return Parser().parsestr(wheel.read(name).decode())


def test_an_index_accepts_both(built: list[Path], folder: Path):
    done = run(sys.executable, "-m", "twine", "check", "--strict", *map(str, built), cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASSED") == 2


def test_every_link_of_the_page_is_absolute_and_nothing_needs_mermaid(metadata: Message):
    page = metadata.get_payload()
    assert isinstance(page, str)
    assert "mermaid" not in page
    assert "What you get" in page
    targets = re.findall(r"\]\(([^)\s]+)\)", page)
    assert len(targets) > 20
    assert [target for target in targets if not target.startswith(("https://", "#"))] == []
    urls = [text.partition(", ")[2] for text in metadata.get_all("Project-URL", [])]
    (home,) = {"/".join(url.split("/")[:3]) for url in urls}
    assert [target for target in targets if target.startswith(f"{home}/source/docs/")]


def test_the_metadata_offers_the_two_sides_and_their_additions_and_no_tools(metadata: Message):
    sides, additions = {"django", "dagster", "client"}, {"openapi", "alerts", "metrics", "tracing", "celery"}
    assert set(metadata.get_all("Provides-Extra", [])) == sides | additions
    assert [text for text in metadata.get_all("Requires-Dist", []) if "extra ==" not in text] == []
    assert [text for text in metadata.get_all("Requires-Dist", []) if "<" in text] == []


def test_the_sdist_has_docs_and_deploy_and_builds_the_same_wheel(built: list[Path], folder: Path):
    sdist, wheel = built
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "source", filter="data")
    (source,) = (folder / "source").iterdir()
    assert {"docs", "deploy", "reportqueue", "README.md", "SECURITY.md"} <= {path.name for path in source.iterdir()}
    assert not (source / "tests").exists()
    assert (source / "docs" / "settings.md").read_bytes() == (ROOT / "docs" / "settings.md").read_bytes()
    assert build(source, folder / "again")[1].read_bytes() == wheel.read_bytes()


def test_two_builds_are_byte_identical(built: list[Path], folder: Path):
    """The second build has other times, other permissions and another place."""
    copy = folder / "elsewhere"
    copy.mkdir()
    for name in PACKED:
        shutil.copytree(ROOT / name, copy / name, copy_function=shutil.copyfile)
    for name in FILES:
        shutil.copyfile(ROOT / name, copy / name)
    (copy / "README.md").chmod(0o600)
    for first, second in zip(built, build(copy, folder / "second"), strict=True):
        assert first.name == second.name
        assert first.read_bytes() == second.read_bytes(), first.name


@pytest.mark.parametrize(
    ("statement", "missing", "extra"),
    [
        ("import reportqueue", "django", "django"),
        ("import reportqueue.apps", "psycopg", "django"),
        ("import dagster_reportqueue", "dagster", "dagster"),
        ("from dagster_reportqueue.warm.launcher import WarmRunLauncher", "requests", "dagster"),
    ],
)
def test_without_an_extra_an_import_names_it(built: list[Path], folder: Path, statement: str, missing: str, extra: str):
    # Without site-packages: as after `pip install reportqueue`, which installs nothing else.
    code = f"import sys; sys.path.insert(0, {str(built[1])!r}); {statement}"
    done = run(sys.executable, "-I", "-S", "-c", code, cwd=folder)
    assert done.returncode == 1
    said = done.stderr.splitlines()[-1]
    assert re.search(rf"ModuleNotFoundError: \w+ needs .*\b{missing}\b", said), said
    assert said.endswith(f"pip install 'reportqueue[{extra}]'")
