"""The documentation's site: it builds without a warning, its links lead somewhere, and its references are whole."""

from __future__ import annotations

import json
import pkgutil
import re
from pathlib import Path

import pytest

pytest.importorskip("sphinx", reason="the environments of the matrix have no Sphinx")

import dagster_reportqueue
from project.environment import BASE_DIR
from reportqueue import __version__, queue
from reportqueue.management import commands
from tests.browser.conftest import CHROMIUM, missing, playwright_api
from tests.documents import pages
from tools.docs import extension, site

pytestmark = pytest.mark.timeout(600)  # a build takes long on a busy machine


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site."""
    output = tmp_path_factory.mktemp("site")
    assert site.build(output=output), "Sphinx warns; what it has printed says of what"
    return output / "html"


def text_of(built: Path, page: str) -> str:
    return (built / page).with_suffix(".html").read_text()


def test_links_lead_somewhere_and_no_page_needs_another_host(built: Path):
    assert site.problems(built) == []


def test_each_page_is_in_the_navigation_and_leads_to_the_glossary(built: Path):
    home = text_of(built, "docs/index.md")
    for page in pages():
        if page == "docs/index.md":
            continue
        target = page.removeprefix("docs/") if page.startswith("docs/") else f"../{page}"
        assert f'href="{Path(target).with_suffix(".html")}"' in home, f"docs/index.md does not list {page}"
        assert page == "docs/glossary.md" or "glossary.html" in text_of(built, page), page


def test_the_home_page_is_where_people_look_for_it(built: Path):
    assert "docs/index.html" in (built / "index.html").read_text()


def test_each_page_shows_the_version(built: Path):
    for page in pages():
        assert f'<span class="sidebar-brand-text">reportqueue {__version__}</span>' in text_of(built, page), page


def test_drawings_are_pictures_for_both_themes(built: Path):
    for page in pages():
        drawings = (BASE_DIR / page).read_text().count("```mermaid")
        shown = text_of(built, page)
        assert shown.count('<svg id="drawing-light-') == shown.count('<svg id="drawing-dark-') == drawings, page
        assert "language-mermaid" not in shown


def test_pictures_are_shown_in_the_scheme_of_the_page_and_open_in_their_own_size(built: Path):
    shown = 0
    for page in pages():
        text = text_of(built, page)
        assert "<picture" not in text, page
        for found in extension.PICTURE.finditer((BASE_DIR / page).read_text()):
            for scheme, name in extension.SCHEMES.items():
                file = re.escape(Path(found[scheme]).name)
                link = rf'<a class="{name}[^"]*" href="(?:\.\./)?_images/{file}"><img alt="[^"]+" class="{name}"'
                assert re.search(link, text), f"{page} does not show {found[scheme]}"
                shown += 1
    assert shown >= 10


def test_the_search_knows_the_terms_of_the_glossary(built: Path):
    assert 'id="term-lease-token"' in text_of(built, "docs/glossary.md")
    assert '"lease token"' in (built / "searchindex.js").read_text()


def test_the_reference_has_each_call_and_each_shape(built: Path):
    document = json.loads((BASE_DIR / "reportqueue/api/openapi/openapi.json").read_text())
    calls, shapes = (text_of(built, f"docs/reference/{page}.md") for page in ("rest-api", "rest-shapes"))
    for path, methods in document["paths"].items():
        for method in methods:
            assert f"{method.upper()} {path}" in re.sub(r"<[^>]+>", "", calls)
    for name in document["components"]["schemas"]:
        assert f'id="{name.lower()}"' in shapes


def test_the_reference_has_each_command(built: Path):
    shown = text_of(built, "docs/reference/commands.md")
    for module in pkgutil.iter_modules(commands.__path__):
        assert f">{module.name}</span>" in shown


PUBLIC = [
    *(("django-api", f"reportqueue.queue.{name}") for name in queue.__all__),
    *(("dagster-api", f"dagster_reportqueue.{name}") for name in dagster_reportqueue.__all__),
]


@pytest.mark.parametrize(("page", "name"), PUBLIC)
def test_the_reference_has_each_public_name(built: Path, page: str, name: str):
    assert f'id="{name}"' in text_of(built, f"docs/reference/{page}.md")


@pytest.mark.parametrize(("width", "scheme"), [(400, "light"), (1280, "dark")])
def test_no_page_is_wider_than_its_window(built: Path, width: int, scheme: str):
    if CHROMIUM is None:
        missing("Chromium is not installed; on Debian: apt-get install chromium.")
    wide, said = [], []
    with playwright_api().sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], headless=True)
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.on("pageerror", lambda error: said.append(str(error)))
        for path in [*sorted(built.glob("docs/**/*.html")), built / "README.html", built / "search.html"]:
            page.goto(path.as_uri(), wait_until="domcontentloaded")
            if page.evaluate("document.documentElement.scrollWidth") > width:
                wide.append(path.relative_to(built).as_posix())
        browser.close()
    assert (wide, said) == ([], [])


def test_what_is_wrong_with_a_page_is_found(tmp_path: Path):
    (tmp_path / "a.html").write_text(
        '<script src="https://cdn.example/x.js"></script><a href="b.html#there">1</a><a href="b.html#gone">2</a>'
        '<a href="c.html">3</a><a href="https://example.com/">4</a><a href="#gone">5</a>'
    )
    (tmp_path / "b.html").write_text('<p id="there">')
    assert site.problems(tmp_path) == [
        "a.html loads https://cdn.example/x.js",
        "a.html links to #gone, which has no such place",
        "a.html links to b.html#gone, which has no such place",
        "a.html links to c.html, which is not there",
    ]


def test_a_part_that_nobody_writes_is_an_error():
    with pytest.raises(KeyError):
        extension.PART.sub(lambda found: extension.PARTS[found[1]](), "<!-- generated: nothing -->")
