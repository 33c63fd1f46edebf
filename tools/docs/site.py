"""The site: it is built by Sphinx without a warning, its links lead somewhere, and it needs no other host."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from project.environment import BASE_DIR

OUTPUT = BASE_DIR / "docs" / "_build"
HTML = OUTPUT / "html"
LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "video": "src"}
"""By element: the attribute with what a browser loads without being asked."""


def build(builder: str = "html", output: Path = OUTPUT) -> bool:
    """Whether Sphinx has built it without a warning. It prints what is wrong."""
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--nitpicky", "--jobs", "2"]
    folders = ["-b", builder, "-c", str(BASE_DIR / "tools" / "docs"), "-d", str(output / "doctrees")]
    done = subprocess.run([*command, *folders, str(BASE_DIR), str(output / builder)], cwd=BASE_DIR, check=False)
    return done.returncode == 0


def problems(folder: Path = HTML) -> list[str]:
    """What is wrong with the built pages: links that lead nowhere, and what is loaded from other hosts."""
    pages = {path: _read(path) for path in sorted(folder.rglob("*.html"))}
    return [problem for path, page in pages.items() for problem in _of_page(folder, path, page, pages)]


@dataclass
class Page:
    """What a page has that others link to, and what it links to and loads."""

    anchors: set[str] = field(default_factory=set)
    links: set[str] = field(default_factory=set)
    loaded: set[str] = field(default_factory=set)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = Page()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.page.anchors.update(values[name] for name in ("id", "name") if name in values)
        if tag == "a" and "href" in values:
            self.page.links.add(values["href"])
        elif tag in LOADED and (address := values.get(LOADED[tag])):
            self.page.loaded.add(address)


def _read(path: Path) -> Page:
    reader = _Reader()
    reader.feed(path.read_text())
    return reader.page


def _of_page(folder: Path, path: Path, page: Page, pages: dict[Path, Page]) -> Iterator[str]:
    name = path.relative_to(folder)
    for address in sorted(page.loaded):
        if urlsplit(address).netloc:
            yield f"{name} loads {address}"
    for address in sorted(page.links | page.loaded):
        parts = urlsplit(address)
        if parts.scheme or parts.netloc:
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        if not target.is_file():
            yield f"{name} links to {address}, which is not there"
        elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
            yield f"{name} links to {address}, which has no such place"
