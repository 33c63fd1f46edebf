"""Webhooks over https: the certificate must be trusted, and be that of the host."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from reportqueue.outbox import sending
from tests.outbox.receiver import receiving

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that nobody knows, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    made, key = folder / "certificate.pem", folder / "key.pem"
    options = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(
        ["openssl", *options.split(), "-keyout", str(key), "-out", str(made)], check=True, capture_output=True
    )
    return made, key


@pytest.fixture
def server(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    """Of a receiver with this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


HEADERS = {"webhook-id": "evt_1"}


def test_a_certificate_that_nobody_knows_is_refused_and_named(server: ssl.SSLContext):
    with receiving(server) as receiver:
        answer = sending.post(receiver.url, b"{}", HEADERS)
    assert answer.problem.startswith("The certificate is not trusted: self-signed certificate") or (
        answer.problem.startswith("The certificate is not trusted: self signed certificate")
    )
    assert receiver.requests == []


def test_a_trusted_certificate_of_the_host_is_accepted(
    server: ssl.SSLContext, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, settings
):
    trusting = ssl.create_default_context(cafile=str(certificate[0]))
    monkeypatch.setattr(sending, "_context", lambda: trusting)
    settings.REPORTQUEUE = {**settings.REPORTQUEUE, "WEBHOOK_ALLOWED_NETWORKS": ["127.0.0.0/8", "localhost"]}
    with receiving(server) as receiver:
        good = sending.post(receiver.url, b'{"data": {}}', HEADERS)
        other_name = sending.post(receiver.url.replace("127.0.0.1", "localhost"), b"{}", HEADERS)
    assert (good.status, good.problem, good.text) == (200, "", "thank you")
    assert "Hostname mismatch" in other_name.problem
