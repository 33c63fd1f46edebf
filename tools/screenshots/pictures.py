"""Takes the pictures, in a browser: each page of the admin to look at, or those pages that the docs show."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image

from project.environment import BASE_DIR

if TYPE_CHECKING:
    from tools.screenshots.scene import Scene

SIZES = {"wide": (1280, 900), "narrow": (400, 900)}
SCHEMES = ("light", "dark")
IMAGES = BASE_DIR / "docs" / "images"


class Part(NamedTuple):
    """What the docs show of a page: from its top to the end of an element, after a click on another one."""

    last: str
    click: str = ""


IN_DOCS = {
    "overview": Part("section[aria-labelledby=rq-history]"),
    "row": Part(".form-row.field-attempts"),
    "failures": Part(".rq-failures"),
    "agenda": Part(".rq-agenda", click=".rq-peak summary"),
    "schedule": Part("fieldset:nth-of-type(3)"),
}
"""By the names in `Scene.pages`."""
MARGIN = 8
"""Pixels below the last element."""
COLOURS = 256
"""Of a picture for the docs: its file is a third."""
WITHOUT_SIDEBAR = "localStorage.setItem('django.admin.navSidebarIsOpen', 'false')"


def of_docs(name: str, scheme: str) -> Path:
    """The file of a picture for the docs."""
    return IMAGES / f"{name}-{scheme}.png"


class Browser:
    """A Chromium, and a web app with something to show."""

    def __init__(self, chromium: Any, address: str, made: Scene, zone: str) -> None:
        """`zone` is the time zone that the person has chosen, or empty."""
        self._chromium = chromium
        self._address = address
        self._made = made
        self._zone = zone

    def take_all(self, folder: Path) -> list[str]:
        """Whole pages, at each size and in each scheme; returns which pages could not be shown."""
        folder.mkdir(parents=True, exist_ok=True)
        wrong = []
        for size in SIZES:
            for scheme in SCHEMES:
                page = self._new_page(size, scheme)
                for name in self._made.pages:
                    wrong += self._go(page, name)
                    page.screenshot(path=folder / f"{name}-{size}-{scheme}.png", full_page=True)
                print(f"{len(self._made.pages)} pages, {size}, {scheme}: {folder}", flush=True)
        return wrong

    def take_for_docs(self) -> list[str]:
        """The upper parts of the pages that the docs show; returns which pages could not be shown."""
        IMAGES.mkdir(exist_ok=True)
        wrong = []
        pages = {scheme: self._new_page("wide", scheme) for scheme in SCHEMES}
        for name, part in IN_DOCS.items():
            for scheme, page in pages.items():
                page.add_init_script(WITHOUT_SIDEBAR)
                wrong += self._go(page, name)
                if part.click:
                    page.click(part.click)
                shown = page.locator(part.last).first.bounding_box()
                clip = {"x": 0, "y": 0, "width": SIZES["wide"][0], "height": shown["y"] + shown["height"] + MARGIN}
                path = of_docs(name, scheme)
                page.screenshot(path=path, full_page=True, clip=clip)
                _make_small(path)
                print(f"{path.relative_to(BASE_DIR)}: {path.stat().st_size // 1024} KiB", flush=True)
        return wrong

    def _new_page(self, size: str, scheme: str) -> Any:
        """Of a person who has logged in."""
        from reportqueue.admin.viewer_zone import COOKIE

        width, height = SIZES[size]
        context = self._chromium.new_context(
            base_url=self._address, viewport={"width": width, "height": height}, color_scheme=scheme
        )
        if self._zone:
            context.add_cookies([{"name": COOKIE, "value": self._zone, "url": self._address}])
        page = context.new_page()
        page.goto("/admin/login/")
        page.fill("#id_username", "admin")
        page.fill("#id_password", self._made.password)
        page.click("input[type=submit]")
        return page

    def _go(self, page: Any, name: str) -> list[str]:
        answer = page.goto(self._made.pages[name])
        status = None if answer is None else answer.status
        return [] if status == 200 else [f"{name} could not be shown: {status}"]


@contextmanager
def browser(program: str, address: str, made: Scene, zone: str) -> Iterator[Browser]:
    """Starts this Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield Browser(chromium, address, made, zone)
        finally:
            chromium.close()


def _make_small(path: Path) -> None:
    with Image.open(path) as picture:
        reduced = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    reduced.save(path, optimize=True)
