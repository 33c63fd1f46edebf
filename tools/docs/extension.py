"""What the site has beside the pages as they are: the navigation, generated parts, terms, drawings.

The pages stay plain Markdown, which any viewer shows. A comment `<!-- generated: NAME -->` in a page becomes the part
of that name, written from the code.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.osutil import relative_uri

from project.environment import BASE_DIR
from tools.docs import commands, drawings, python_api, rest_api

if TYPE_CHECKING:
    from sphinx.application import Sphinx

PARTS: dict[str, Callable[[], str]] = {
    "commands": commands.part,
    "django-api": python_api.django_part,
    "dagster-api": python_api.dagster_part,
    "rest-calls": rest_api.calls_part,
    "rest-schemas": rest_api.schemas_part,
}
PART = re.compile(r"^<!-- generated: ([\w-]+) -->$", re.MULTILINE)
SECTION = re.compile(r"^## (?P<heading>[^\n]+)\n(?P<text>.*?)(?=^## |\Z)", re.DOTALL | re.MULTILINE)
ENTRY = re.compile(r"^- \[(?P<title>[^\]]+)\]\((?P<page>[^)#]+)\.md\)", re.MULTILINE)
TERM = re.compile(r"^\*\*(?P<words>[^*\n]+)\*\*: (?P<text>.+?)\n(?=\n|\Z)", re.DOTALL | re.MULTILINE)


PICTURE = re.compile(
    r'^<picture>\n  <source media="\(prefers-color-scheme: dark\)" srcset="(?P<dark>[^"]+)">\n'
    r'  <img alt="(?P<alt>[^"]+)" src="(?P<light>[^"]+)">\n</picture>$',
    re.MULTILINE,
)
"""A picture in two schemes, as GitHub shows it."""
SCHEMES = {"light": "only-light", "dark": "only-dark"}
"""The theme's class of a picture that is shown in this scheme alone."""


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx's entry point."""
    app.connect("source-read", _complete)
    app.connect("autodoc-process-docstring", _show_code)
    app.add_post_transform(Folders)
    app.add_post_transform(Pictures)
    drawings.setup(app)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _complete(app: Sphinx, name: str, source: list[str]) -> None:
    text = PART.sub(lambda found: PARTS[found[1]](), source[0])
    text = PICTURE.sub(with_schemes, text)
    if name == app.config.root_doc:
        text = with_navigation(text, PurePosixPath(name).parent)
    if name.endswith("/glossary"):
        text = with_terms(text)
    source[0] = text


def _show_code(app: Sphinx, kind: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Docstrings have code as indented paragraphs; reStructuredText wants `::` before them."""
    for place in range(len(lines) - 1, 0, -1):
        before = next((line for line in reversed(lines[:place]) if line), "")
        if lines[place].startswith("    ") and not lines[place - 1] and not before.startswith("    "):
            lines[place:place] = ["::", ""]


class Folders(SphinxPostTransform):
    """A link to a folder of the project is no link here: the site has pages and files alone."""

    default_priority = 5  # before references are resolved

    def run(self, **kwargs: object) -> None:
        """Leave the text of these links."""
        here = (BASE_DIR / self.env.docname).parent
        for link in list(self.document.findall(pending_xref)):
            if link["reftype"] == "myst" and (here / link["reftarget"]).is_dir():
                link.replace_self(link.children)


class Pictures(SphinxPostTransform):
    """A picture of a page links to itself: a click shows it in its own size."""

    default_priority = 5
    formats = ("html",)

    def run(self, **kwargs: object) -> None:
        """Put a link around each picture of `with_schemes`."""
        here = self.app.builder.get_target_uri(self.env.docname)
        for picture in list(self.document.findall(nodes.image)):
            if schemes := [name for name in picture["classes"] if name in SCHEMES.values()]:
                file = posixpath.join(self.app.builder.imagedir, self.env.images[picture["uri"]][1])
                link = nodes.reference(refuri=relative_uri(here, file), classes=schemes, internal=True)
                picture.replace_self(link)
                link += picture


def with_schemes(found: re.Match[str]) -> str:
    """The two files of a picture, each for its scheme."""
    return "\n".join(
        f"```{{image}} {found[scheme]}\n:alt: {found['alt']}\n:class: {name}\n```" for scheme, name in SCHEMES.items()
    )


def with_navigation(text: str, folder: PurePosixPath) -> str:
    """The home page with the entries of each section's list in the navigation, under the section's heading."""

    def complete(section: re.Match[str]) -> str:
        entries = [
            f"{entry['title']} </{_resolved(folder, entry['page'])}>" for entry in ENTRY.finditer(section["text"])
        ]
        if not entries:
            return section[0]
        listed = "\n".join(entries)
        return f"{section[0].rstrip()}\n\n:::{{toctree}}\n:hidden:\n:caption: {section['heading']}\n\n{listed}\n:::\n\n"

    return SECTION.sub(complete, text)


def _resolved(folder: PurePosixPath, page: str) -> PurePosixPath:
    return PurePosixPath(posixpath.normpath(folder / page))


def with_terms(text: str) -> str:
    """The glossary with entries that the search knows, each with an anchor such as `#term-lease`."""

    def term(found: re.Match[str]) -> str:
        words = "\n".join(word.strip() for word in found["words"].split(","))
        explained = "\n".join(f"  {line}" for line in found["text"].splitlines())
        return f":::{{glossary}}\n{words}\n{explained}\n:::\n"

    return TERM.sub(term, text)
