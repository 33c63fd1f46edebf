"""deploy/haproxy.cfg: HAProxy accepts it, and its numbers fit those of the web app and of its callers."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from dagster_reportqueue.client.client import ANSWER_SECONDS
from reportqueue import bounds, gunicorn, health
from reportqueue.conf import Conf
from tests.haproxy import CONFIG, HAPROXY, configuration, needs_haproxy

TEXT = CONFIG.read_text()


def value(pattern: str) -> str:
    """What the file's only line of this pattern has in the group."""
    (found,) = re.findall(pattern, TEXT, re.MULTILINE)
    return str(found)


@needs_haproxy
def test_haproxy_accepts_it(tmp_path: Path):
    assert HAPROXY is not None
    path = tmp_path / "haproxy.cfg"
    path.write_text(configuration(tmp_path, 8001, {"one": 8002, "two": 8003}))
    checked = subprocess.run([HAPROXY, "-c", "-f", str(path)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    assert "WARNING" not in checked.stderr
    path.write_text(path.read_text().replace("option redispatch", "option redispatches"))
    assert subprocess.run([HAPROXY, "-c", "-f", str(path)], capture_output=True).returncode != 0


def test_an_answer_may_take_as_long_as_the_callers_wait_for_it():
    assert int(value(r"^ +timeout server (\d+)s$")) > bounds.MAX_WAIT_SECONDS + ANSWER_SECONDS


def test_a_node_has_as_many_calls_as_threads_and_a_body_may_be_as_large_as_there():
    assert int(value(r"^ +default-server .* maxconn (\d+) ")) == gunicorn.threads
    assert int(value(r"req\.body_size gt (\d+)")) == Conf().max_body_bytes


def test_a_node_is_asked_whether_it_is_ready():
    path = value(r"^ +option httpchk GET /(\w+)$")
    assert path == "readyz"
    assert path in {str(pattern.pattern) for pattern in health.urlpatterns}
    assert value(r"^ +http-check expect status (\d+)$") == "200"


def test_no_call_is_sent_twice_and_no_client_says_that_it_came_by_tls():
    assert value(r"^ +retry-on (.*)$") == "conn-failure"
    for scheme in ("https if", "http unless"):
        assert f"set-header X-Forwarded-Proto {scheme} {{ ssl_fc }}" in TEXT
