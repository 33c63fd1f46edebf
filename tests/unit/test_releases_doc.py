"""docs/releases.md, SECURITY.md and docs/supported.md say the same of each minor version, and what the code says."""

from __future__ import annotations

import re

from project.environment import BASE_DIR
from reportqueue import __version__
from tools.runner.packages import PACKAGES

MINOR = ".".join(__version__.split(".")[:2])
POLICY, SECURITY, SUPPORTED = "docs/releases.md", "SECURITY.md", "docs/supported.md"


def table(page: str, header: str) -> list[list[str]]:
    """The cells of the rows below this header."""
    _, found, after = (BASE_DIR / page).read_text().partition(f"\n{header}\n")
    assert found, f"{page} has no table {header}"
    rows = after.partition("\n\n")[0].splitlines()[1:]
    return [[cell.strip() for cell in row.strip("| ").split(" | ")] for row in rows]


def fixes() -> dict[str, list[str]]:
    """When each minor version was released, and where its faults are mended."""
    rows = table(POLICY, "| version | released | faults are mended | security fixes |")
    return {version: rest for version, *rest in rows}


def test_the_minor_version_of_the_code_is_the_newest_of_both_pages():
    assert next(iter(fixes())) == MINOR
    header = "| reportqueue | Python | Django | Dagster | PostgreSQL | operating system |"
    assert [row[0] for row in table(SUPPORTED, header)] == list(fixes())


def test_security_fixes_are_those_of_the_policy():
    with_fixes = {version: fixed for version, (_, _, fixed) in fixes().items() if fixed != "none"}
    assert dict(table(SECURITY, "| version | security fixes |")) == with_fixes


def test_a_minor_version_is_released_if_the_changelog_has_a_day_for_it():
    days = re.findall(
        r"^## (\d+\.\d+)\.\S+ \(\d{4}-\d\d-\d\d\)$", (BASE_DIR / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    assert {version for version, (released, *_) in fixes().items() if released != "not yet"} == set(days)


def test_the_page_names_what_the_code_deprecates():
    code = [path for package in PACKAGES for path in (BASE_DIR / package).rglob("*.py")]
    deprecating = [path.name for path in code if "DeprecationWarning" in path.read_text()]
    rows = table(POLICY, "| deprecated | since | use instead | is removed by |")
    assert bool(deprecating) == (rows[0][0] != "nothing"), deprecating
