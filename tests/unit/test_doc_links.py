"""The pages link to files and headings that exist."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "reference").glob("*.md")),
    ROOT / "tools" / "benchmarks" / "README.md",
]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def links() -> list[tuple[str, str]]:
    """Page and target, of each link to something in this project."""
    found = []
    for page in PAGES:
        # A label may be code; the target of a link never is.
        text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
        targets = LINK.findall(text)
        found += [(str(page.relative_to(ROOT)), one) for one in targets if not re.match(r"[a-z]+:", one)]
    return sorted(set(found))


def anchors(page: Path) -> set[str]:
    """The page's headings as GitHub names them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    names: list[str] = []
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", text, re.MULTILINE):
        name = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        repeats = sum(re.fullmatch(rf"{re.escape(name)}(-\d+)?", known) is not None for known in names)
        names.append(f"{name}-{repeats}" if repeats else name)
    return set(names)


def test_there_are_links():
    assert len(links()) > 30


@pytest.mark.parametrize(("page", "target"), links())
def test_a_link_leads_somewhere(page: str, target: str):
    path, _, anchor = unquote(target).partition("#")
    there = (ROOT / page).parent / path if path else ROOT / page
    assert there.resolve().is_relative_to(ROOT), "only on this machine"
    assert there.exists()
    if anchor:
        assert anchor in anchors(there)
