"""Builds the site, checks it, and serves it if asked. `run.py docs` starts this."""

from __future__ import annotations

import shutil
import sys
from argparse import ArgumentParser
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

from tools.docs import site
from tools.runner.arguments import whole_number


def main() -> int:
    """Returns 0 if the site is whole."""
    parser = ArgumentParser(prog="run.py docs", description="Build the documentation's site.", allow_abbrev=False)
    parser.add_argument("--links", action="store_true", help="ask other hosts, too, whether the links to them work")
    parser.add_argument(
        "--serve", type=whole_number(1, 65_535), metavar="PORT", help="serve it on 127.0.0.1 until Ctrl-C"
    )
    chosen = parser.parse_args()
    shutil.rmtree(site.OUTPUT, ignore_errors=True)
    if not site.build():
        return 1
    problems = site.problems()
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    if problems or (chosen.links and not site.build("linkcheck")):
        return 1
    print(f"The site is in {site.HTML}: open {site.HTML / 'index.html'}")
    if chosen.serve:
        _serve(chosen.serve)
    return 0


def _serve(port: int) -> None:
    with ThreadingHTTPServer(("127.0.0.1", port), partial(SimpleHTTPRequestHandler, directory=site.HTML)) as server:
        print(f"http://127.0.0.1:{port} until Ctrl-C", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    sys.exit(main())
