"""Logins at a real NATS server: what gets in, and what a refusal says."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest

from sandbox_core.nats.connection import NatsConnection
from tests.e2e.harness import eventually, free_port

from .logins import ODD, assert_hidden, nats_server, said, until_refused, wrong_of


@pytest.mark.parametrize("password", ODD)
async def test_nats_takes_odd_passwords_and_says_whose_login_it_refused(
    tmp_path: Path, password: str
) -> None:
    async with nats_server(tmp_path, {"user": "bot", "password": password}) as port:
        encoded = quote(password, safe="")
        connection = NatsConnection()
        # The first of them is not there, and the second takes the login of the first.
        await connection.connect(
            f"nats://bot:{encoded}@127.0.0.1:{free_port()}, nats://127.0.0.1:{port}", name="test", within=10
        )
        assert connection.connected
        await connection.close()
        refused = await until_refused(f"nats://bot:{quote(wrong_of(password), safe='')}@127.0.0.1:{port}")
    assert refused.reason == (
        f"login refused at 127.0.0.1:{port} as bot: the user's name, the password or the token is wrong or "
        "missing; check NATS_URL"
    )
    assert_hidden(said(refused), password)


async def test_nats_tokens_and_tls_that_is_not_there(tmp_path: Path) -> None:
    async with nats_server(tmp_path, {"token": "t@k,n"}) as port:
        connection = NatsConnection()
        await connection.connect(f"nats://t%40k%2Cn@127.0.0.1:{port}", name="test", within=10)
        assert connection.connected
        await connection.close()
        assert (await until_refused(f"nats://127.0.0.1:{port}")).user == "nobody"
        assert (await until_refused(f"nats://wrong@127.0.0.1:{port}")).user == "the holder of a token"
        refused = await until_refused(f"tls://t%40k%2Cn@127.0.0.1:{port}")
        assert refused.problem == "the address begins with tls://, and the server has no TLS"


async def test_nats_says_what_its_user_may_not_do(tmp_path: Path) -> None:
    user = {"user": "bot", "password": "Qz7Wx", "permissions": {"publish": "own.>", "subscribe": "own.>"}}
    async with nats_server(tmp_path, {"users": [user]}) as port:
        connection = NatsConnection()
        await connection.connect(f"nats://bot:Qz7Wx@127.0.0.1:{port}", name="test", within=10)
        seen: list[str] = []
        connection.on_error.append(
            lambda _: seen.append(connection.denied.reason if connection.denied else "")
        )
        await connection.client.publish("Others.news", b"")
        await eventually(lambda: len(seen) == 1)
        await connection.client.subscribe("others.*")
        await eventually(lambda: len(seen) == 2)
        await connection.close()
    assert seen == [
        f"permission refused at 127.0.0.1:{port} as bot: its user may not {verb} to {subject} (in small "
        "letters; `sandboxctl doctor` says more); check NATS_URL"
        for verb, subject in (("publish", "others.news"), ("subscribe", "others.*"))
    ]
