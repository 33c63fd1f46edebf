"""Sphinx's settings. The sources are the pages as they are in the project, so a link is the same here and there."""

from __future__ import annotations

import os

import django

from reportqueue import __version__

os.environ.setdefault("DEBUG", "1")  # the project's settings then need no secret
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
django.setup()

project = "reportqueue"
version = release = __version__
author = "the authors of reportqueue"
project_copyright = author
language = "en"

root_doc = "docs/index"
include_patterns = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "docs/**.md",
    "tools/benchmarks/README.md",
]
exclude_patterns = ["docs/_build"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "tools.docs.extension"]

myst_heading_anchors = 6
myst_enable_extensions = ["colon_fence"]

default_role = "code"  # docstrings have single backticks
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints_format = "short"
python_display_short_literal_types = True
python_use_unqualified_type_names = True
nitpicky = True
# Types in signatures are often those of other libraries, or of modules that are not public: they have no page here.
nitpick_ignore_regex = [(r"py:.*", r".*")]

html_theme = "furo"
html_title = f"{project} {__version__}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_additional_pages = {"index": "redirect.html"}
templates_path = ["templates"]
html_copy_source = False
html_show_sphinx = False

linkcheck_ignore = [r"https?://(127\.0\.0\.1|localhost|([\w.-]+\.)?example(\.com)?)\b"]
linkcheck_timeout = 10
linkcheck_anchors = False  # the pages of others build theirs with scripts
