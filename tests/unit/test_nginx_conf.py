"""deploy/nginx.conf buffers requests and answers, and its numbers fit those of the web app."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from project.artifacts import MAX_BYTES
from reportqueue import bounds
from reportqueue.conf import Conf

FILE = Path(__file__).resolve().parents[2] / "deploy" / "nginx.conf"
UNITS = {"": 1, "s": 1, "m": 1024 * 1024}


def value(name: str) -> str:
    """The value of the file's only directive of this name."""
    (found,) = re.findall(rf"^\s*{name} ([^;]+);", FILE.read_text(), re.MULTILINE)
    return str(found)


def amount(name: str) -> int:
    """A number of seconds or bytes."""
    number, unit = re.fullmatch(r"(\d+)(\w?)", value(name)).groups()  # type: ignore[union-attr]
    return int(number) * UNITS[unit]


def test_requests_and_answers_are_buffered():
    assert (value("proxy_request_buffering"), value("proxy_buffering")) == ("on", "on")


def test_its_numbers_fit_the_web_app():
    assert amount("client_max_body_size") == Conf().max_body_bytes >= MAX_BYTES
    assert amount("proxy_read_timeout") > bounds.MAX_WAIT_SECONDS
    assert all(amount(name) <= 10 for name in ("client_header_timeout", "client_body_timeout", "send_timeout"))


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_nginx_accepts_it(tmp_path: Path):
    server = tmp_path / "server.conf"
    server.write_text(
        FILE.read_text().replace("listen 80;", f"listen unix:{tmp_path}/socket;")
    )  # any user may bind that
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    folders = " ".join(f"{kind}_temp_path {tmp_path}/{kind};" for kind in kinds)
    main = tmp_path / "nginx.conf"
    main.write_text(f"pid {tmp_path}/pid; events {{}} http {{ access_log off; {folders} include {server}; }}")
    command = ["nginx", "-t", "-e", "stderr", "-p", str(tmp_path), "-c", str(main)]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
