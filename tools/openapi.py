"""`python -m tools.openapi`: writes the API's description, `reportqueue/api/openapi/openapi.json`."""

from __future__ import annotations

import os

import django


def main() -> None:
    """Write it, and say where."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()
    from reportqueue.api.openapi import document, writer

    document.PATH.write_text(writer.written())
    print(document.PATH)


if __name__ == "__main__":
    main()
