"""A server whose certificate nobody knows is told no password."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from sandbox_core.errors import LoginRefused
from sandbox_core.nats.connection import NatsConnection
from sandbox_core.postgres import create_pool
from sandbox_core.redis.client import create_client
from sandbox_core.redis.errors import translating as redis_errors
from tests.deploy.tools import needed

from .logins import assert_hidden, nats_server, said, until_refused, wrong_of


def certificate(directory: Path, name: str) -> tuple[Path, Path]:
    """A key, and a certificate for `localhost` that nobody else has signed."""
    key, signed = directory / f"{name}.key", directory / f"{name}.pem"
    openssl = needed("openssl", "openssl")
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", str(key), "-out", str(signed)),
        ],
        check=True,
        capture_output=True,
    )
    return key, signed


async def test_a_certificate_that_nobody_knows_is_named_before_a_login_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A traceback shows lines of this file, too.
    secret = wrong_of("")
    key, signed = certificate(tmp_path, "own")
    _, another = certificate(tmp_path, "another")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(signed, key)
    heard: list[bytes] = []

    async def redis(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(100))
        writer.close()

    async def postgres(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)
        writer.write(b"S")
        with suppress(ssl.SSLError, OSError):
            await writer.start_tls(context)
            heard.append(await reader.read(100))
        writer.close()

    tls = {"cert_file": str(signed), "key_file": str(key)}
    async with (
        await asyncio.start_server(redis, "127.0.0.1", 0, ssl=context) as valkey,
        await asyncio.start_server(postgres, "127.0.0.1", 0) as database,
        nats_server(tmp_path, {"user": "bot", "password": secret}, tls=tls) as nats,
    ):
        where = f"localhost:{valkey.sockets[0].getsockname()[1]}"
        async with create_client(f"rediss://bot:{secret}@{where}/0") as client:
            with pytest.raises(LoginRefused) as refused, redis_errors():
                await client.ping()
        assert "the server's certificate can't be verified" in refused.value.problem
        assert_hidden(said(refused.value), "")
        where = f"localhost:{database.sockets[0].getsockname()[1]}"
        with pytest.raises(LoginRefused) as refused:
            await create_pool(
                f"postgresql://bot:{secret}@{where}/d?sslmode=verify-full&sslrootcert={another}"
            )
        assert refused.value.problem == "the server's TLS certificate can't be verified"
        assert refused.value.where == where
        assert_hidden(said(refused.value), "")
        said_no = await until_refused(f"tls://bot:{secret}@localhost:{nats}")
        assert said_no.problem.startswith("the server's TLS certificate can't be verified (SSL_CERT_FILE")
        assert_hidden(said(said_no), "")
        assert not any(heard)
        # As it says, the system's variable names whom to believe.
        monkeypatch.setenv("SSL_CERT_FILE", str(signed))
        connection = NatsConnection()
        await connection.connect(f"tls://bot:{secret}@localhost:{nats}", name="test", within=10)
        assert connection.connected
        await connection.close()
