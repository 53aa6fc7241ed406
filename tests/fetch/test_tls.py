"""Names under TLS: what is verified is the name, wherever the connection goes."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import pytest
from fetching import fail, open_fetcher, resolve_by

from listener import FILE, Serve, answer_with


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate of its own authority for `pictures.example`, in one file."""
    folder = tmp_path_factory.mktemp("tls")
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
        "-subj /CN=pictures.example -addext subjectAltName=DNS:pictures.example "
        f"-keyout {folder}/key.pem -out {folder}/certificate.pem"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    return folder


async def test_tls_verifies_the_name_not_the_address(serve: Serve, certificate: Path) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate / "certificate.pem", certificate / "key.pem")
    asked = []
    tls.sni_callback = lambda socket, name, context: asked.append(name)
    listener = await serve(answer_with(), tls=tls)
    trusting = ssl.create_default_context(cafile=certificate / "certificate.pem")
    names = {"pictures.example": ["127.0.0.1"], "other.example": ["127.0.0.1"]}
    async with open_fetcher(*names, resolve=resolve_by(names), ssl_context=trusting) as fetcher:
        assert await fetcher.fetch(f"https://pictures.example:{listener.port}/") == FILE
        assert asked == ["pictures.example"]
        assert f"Host: pictures.example:{listener.port}".encode() in listener.requests[0]
        await fail(fetcher, f"https://other.example:{listener.port}/")
    async with open_fetcher(*names, resolve=resolve_by(names)) as fetcher:
        assert (
            await fail(fetcher, f"https://pictures.example:{listener.port}/")
        ).code == "picture_unreachable"
    assert len(listener.requests) == 1
