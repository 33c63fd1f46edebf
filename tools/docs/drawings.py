"""Drawings of pages, written in Mermaid, become SVG while the site is built: no script and no other host is needed.

Each drawing is there twice, in light and in dark colours; the style sheet shows the one of the reader's theme.
"""

from __future__ import annotations

import re
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform

if TYPE_CHECKING:
    from sphinx.application import Sphinx

THEMES = {"light": "redux-color", "dark": "redux-dark-color"}
"""By theme of the page: Mermaid's."""


def setup(app: Sphinx) -> None:
    """Draw the blocks in the language `mermaid`."""
    app.add_post_transform(Drawings)


class Drawings(SphinxPostTransform):
    """Replaces the blocks by their drawings."""

    default_priority = 100
    formats = ("html",)

    def run(self, **kwargs: object) -> None:
        """Raises an error, which fails the build, if a block is no drawing."""
        for block in list(self.document.findall(nodes.literal_block)):
            if block.get("language") == "mermaid":
                block.replace_self(nodes.raw("", _figure(block.astext()), format="html"))


def _figure(text: str) -> str:
    drawn = "".join(f'<div class="drawing only-{theme}">{_drawn(text, theme)}</div>' for theme in THEMES)
    return f'<figure class="drawings">{drawn}</figure>'


@cache
def _drawn(text: str, theme: str) -> str:
    import mmdr  # a library in C++ that is not needed to import this

    svg: str = mmdr.render(f'%%{{init: {{"theme": "{THEMES[theme]}"}}}}%%\n{text}').svg()
    name = f"drawing-{theme}-{sha256(text.encode()).hexdigest()[:8]}"
    found = re.search(r'<svg[^>]* id="([^"]+)"', svg)
    return svg.replace(found[1], name) if found else svg
