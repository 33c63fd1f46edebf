"""The pages of the project, and their blocks of code."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUN = ("sh", "python", "yaml")
"""Languages of blocks that are executed. A picture, or a tree of files, has another language or none."""
FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)
EXCUSE = re.compile(r"^<!-- (not run|run by): (.+) -->$")


@dataclass(frozen=True)
class Block:
    """A block of code, where it is, and what the page says about it."""

    page: str
    line: int
    """Of the fence, from 1."""
    section: str
    """The heading above it."""
    before: str
    """The paragraph before it, on one line."""
    language: str
    text: str
    not_run: str
    """Why it is not run, by a comment such as `<!-- not run: it needs a second machine -->` right before it."""
    run_by: str
    """The test that runs it, by a comment such as `<!-- run by: tests/acceptance/test_dg_project.py -->`."""

    @property
    def is_excused(self) -> bool:
        """Whether the road of the pages leaves it out."""
        return bool(self.not_run or self.run_by)

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    """README.md, CONTRIBUTING.md and the pages of docs/, by their paths in the project."""
    found = [path.relative_to(ROOT) for folder in ("docs", "docs/reference") for path in (ROOT / folder).glob("*.md")]
    return ["README.md", "CONTRIBUTING.md", *sorted(map(str, found))]


def blocks(page: str, *languages: str) -> list[Block]:
    """The page's blocks in order; with languages, only those in one of them."""
    text = (ROOT / page).read_text()
    found = [_block(page, text, fence) for fence in FENCE.finditer(text)]
    return [block for block in found if not languages or block.language in languages]


def _block(page: str, text: str, fence: re.Match[str]) -> Block:
    above = FENCE.sub("```", text[: fence.start()])
    paragraph = above.rstrip().rpartition("\n\n")[2].splitlines()
    excuse = EXCUSE.match(paragraph.pop().strip()) if paragraph and "<!--" in paragraph[-1] else None
    if not paragraph and excuse is not None:  # the comment is a paragraph of its own
        paragraph = above.rstrip().rpartition("\n\n")[0].rpartition("\n\n")[2].splitlines()
    kind, reason = excuse.groups() if excuse else ("", "")
    return Block(
        page=page,
        line=text.count("\n", 0, fence.start()) + 1,
        section=(HEADING.findall(above) or [""])[-1],
        before=" ".join(line.strip() for line in paragraph),
        language=fence["language"],
        text=textwrap.dedent(fence["text"]),
        not_run=reason if kind == "not run" else "",
        run_by=reason if kind == "run by" else "",
    )
