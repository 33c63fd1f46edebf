"""Wheel and sdist as they are published: their page, their content, and the same bytes from every build."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from pathlib import Path

import pytest

from reportqueue import __version__
from tests.acceptance.demos import ROOT, clean_environment
from tools.runner import packages
from tools.runner.packages import Built, Unfit


@pytest.fixture(scope="module")
def source(folder: Path) -> Path:
    """The files of this checkout, with those that are not committed yet."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / "source" / name)
    return folder / "source"


@pytest.fixture(scope="module")
def built(source: Path, folder: Path) -> Built:
    """The sdist and the wheel: built twice, at other places, with other times and permissions, to the same bytes."""
    return packages.build_twice(source, folder)


@pytest.fixture(scope="module")
def metadata(built: Built) -> Message:
    """Of the wheel."""
    return packages.metadata(built.wheel)


def test_an_index_accepts_both(built: Built):
    packages.check_page(built)


def test_an_index_refuses_a_page_that_it_cannot_show(built: Built, folder: Path):
    broken = rewritten(
        built.wheel, folder / "page", {"METADATA": b"Metadata-Version: 2.1\nName: reportqueue\nVersion: 1\n"}
    )
    with pytest.raises(Unfit, match=r"(?s)twine check has failed:.*FAILED.*long_description"):
        packages.check_page(Built(built.sdist, broken))


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
    pictures = re.findall(r'(?:src|srcset)="([^"]+)"', page)
    assert sorted(pictures) == [f"{home}/raw/docs/images/overview-{scheme}.png" for scheme in ("dark", "light")]


def test_the_metadata_offers_the_two_sides_and_their_additions_and_no_tools(metadata: Message):
    sides, additions = {"django", "dagster", "client"}, {"openapi", "alerts", "metrics", "tracing", "celery"}
    assert set(metadata.get_all("Provides-Extra", [])) == sides | additions
    assert [text for text in metadata.get_all("Requires-Dist", []) if "extra ==" not in text] == []
    assert [text for text in metadata.get_all("Requires-Dist", []) if "<" in text] == []


def test_both_have_all_of_the_checkout_that_belongs_into_them(built: Built, source: Path):
    assert packages.check_content(built, source, __version__) > 400
    assert {path.name for path in source.iterdir()} >= packages.IN_SDIST


@pytest.mark.parametrize(
    ("lost", "added", "said"),
    [
        ("reportqueue/locale/de/LC_MESSAGES/django.mo", "", "The wheel has no reportqueue/locale/de/"),
        ("reportcron/py.typed", "", "The wheel has no reportcron/py.typed"),
        ("", "tests/conftest.py", "The wheel has tests/conftest.py, which does not belong there"),
        ("", "project/settings.py", "The wheel has project/settings.py, which"),
    ],
)
def test_a_wheel_with_other_files_is_unfit(
    built: Built, source: Path, tmp_path: Path, lost: str, added: str, said: str
):
    other = rewritten(built.wheel, tmp_path, {added: b""} if added else {}, without=lost)
    with pytest.raises(Unfit, match=said):
        packages.check_content(Built(built.sdist, other), source, __version__)


def test_an_sdist_with_other_files_is_unfit(built: Built, source: Path, tmp_path: Path):
    (tmp_path / "sdist").mkdir()
    with tarfile.open(built.sdist) as archive:
        archive.extractall(tmp_path / "sdist", filter="data")
    (unpacked,) = (tmp_path / "sdist").iterdir()
    (unpacked / "docs" / "index.md").rename(unpacked / "manage.py")
    with tarfile.open(tmp_path / built.sdist.name, "w:gz") as archive:
        archive.add(unpacked, unpacked.name)
    with pytest.raises(Unfit, match=r"The sdist has no docs/index\.md"):
        packages.check_content(Built(tmp_path / built.sdist.name, built.wheel), source, __version__)
    shutil.copy(unpacked / "manage.py", unpacked / "docs" / "index.md")
    with tarfile.open(tmp_path / built.sdist.name, "w:gz") as archive:
        archive.add(unpacked, unpacked.name)
    with pytest.raises(Unfit, match=r"The sdist has manage\.py, which"):
        packages.check_content(Built(tmp_path / built.sdist.name, built.wheel), source, __version__)


def test_a_wheel_of_another_version_is_unfit(built: Built, source: Path):
    with pytest.raises(Unfit, match=rf"reportqueue-{re.escape(__version__)}\.dist-info"):
        packages.check_content(built, source, "9.8.7")


def test_the_sdist_builds_the_same_wheel(built: Built, tmp_path: Path):
    packages.check_the_sdists_wheel(built, tmp_path)


def test_a_wheel_that_the_sdist_does_not_build_is_unfit(built: Built, tmp_path: Path):
    other = rewritten(built.wheel, tmp_path, {"reportcron/__init__.py": b"", "reportcron/more.py": b""})
    said = r"The wheel from the sdist is another one: .* differ in reportcron/__init__\.py, reportcron/more\.py\."
    with pytest.raises(Unfit, match=said):
        packages.check_the_sdists_wheel(Built(built.sdist, other), tmp_path)


def test_a_build_that_depends_on_the_time_is_unfit(source: Path, tmp_path: Path):
    """A hook of the build that writes the time of a file into the package."""
    copy = shutil.copytree(source, tmp_path / "source")
    settings = copy / "pyproject.toml"
    settings.write_text(f"{settings.read_text()}\n[tool.hatch.build.hooks.custom]\n")
    (copy / "hatch_build.py").write_text(
        "import os\nimport time\nfrom hatchling.builders.hooks.plugin.interface import BuildHookInterface\n\n\n"
        "class Hook(BuildHookInterface):\n"
        "    def initialize(self, version, build_data):\n"
        "        with open('reportcron/built.py', 'w') as file:\n"
        "            file.write(f\"YEAR = {time.gmtime(os.stat('README.md').st_mtime).tm_year}\")\n"
    )
    with pytest.raises(Unfit, match=r"A second build has another file: .* differ in .*reportcron/built\.py"):
        packages.build_twice(copy, tmp_path)


@pytest.mark.parametrize("side", [packages.CLIENT, packages.DJANGO, packages.DAGSTER], ids=lambda side: side.extra)
def test_each_side_is_installed_without_the_others_frameworks(built: Built, tmp_path: Path, side: packages.Side):
    packages.install(side, built.sdist if side is packages.CLIENT else built.wheel, tmp_path, __version__)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"absent": ("requests",)}, r"AssertionError: \['requests'\]"),
        ({"statement": "import croniter"}, "No module named 'croniter'"),
    ],
    ids=["what is not needed", "what is missing"],
)
def test_an_installation_that_is_wrong_is_unfit(built: Built, tmp_path: Path, change: dict[str, object], said: str):
    with pytest.raises(Unfit, match=said):
        packages.install(packages.CLIENT._replace(**change), built.wheel, tmp_path, __version__)


def test_a_file_that_cannot_be_installed_is_unfit(folder: Path, tmp_path: Path):
    (folder / "reportqueue-9.8.7-py3-none-any.whl").write_bytes(b"")
    with pytest.raises(Unfit, match=r"reportqueue-9\.8\.7-py3-none-any\.whl\[client\] cannot be installed"):
        packages.install(packages.CLIENT, folder / "reportqueue-9.8.7-py3-none-any.whl", tmp_path, "9.8.7")


def test_the_client_names_its_version_to_the_web_app(built: Built, folder: Path):
    code = (
        f"import sys; sys.path.insert(0, {str(built.wheel)!r}); "
        "from dagster_reportqueue.client.transport import USER_AGENT; print(USER_AGENT)"
    )
    done = run(sys.executable, "-I", "-c", code, cwd=folder)
    assert done.stdout.startswith(f"reportqueue/{__version__} python-requests/"), done.stderr


@pytest.mark.parametrize(
    ("statement", "missing", "extra"),
    [
        ("import reportqueue", "django", "django"),
        ("import reportqueue.apps", "psycopg", "django"),
        ("import dagster_reportqueue", "dagster", "dagster"),
        ("from dagster_reportqueue.warm.launcher import WarmRunLauncher", "requests", "dagster"),
    ],
)
def test_without_an_extra_an_import_names_it(built: Built, folder: Path, statement: str, missing: str, extra: str):
    # Without site-packages: as after `pip install reportqueue`, which installs nothing else.
    code = f"import sys; sys.path.insert(0, {str(built.wheel)!r}); {statement}"
    done = run(sys.executable, "-I", "-S", "-c", code, cwd=folder)
    assert done.returncode == 1
    said = done.stderr.splitlines()[-1]
    assert re.search(rf"ModuleNotFoundError: \w+ needs .*\b{missing}\b", said), said
    assert said.endswith(f"pip install 'reportqueue[{extra}]'")


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, env=clean_environment(), capture_output=True, text=True, check=False)


def rewritten(wheel: Path, target: Path, changed: dict[str, bytes], *, without: str = "") -> Path:
    """A copy of a wheel with some files changed, added or left out; a name without a folder is of the metadata."""
    target.mkdir(exist_ok=True)
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(target / wheel.name, "w") as new:
        left = dict(changed)
        for name in old.namelist():
            content = left.pop(name, left.pop(name.rpartition("/")[2], old.read(name)))
            if name != without:
                new.writestr(name, content)
        for name, content in left.items():
            new.writestr(name, content)
    return target / wheel.name
