"""Odd passwords, NATS servers that ask for one, and what a refusal must not tell."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from sandbox_bot.embedded._programs import nats_program
from sandbox_core.errors import DependencyUnavailable, LoginRefused
from sandbox_core.nats.connection import NatsConnection
from tests.e2e.harness import free_port

ODD = ("p@ss", "p%ss", "p%40ss", "a/b?c#d", "co,lon:é=&+ x", "[::1]@h:5/")


def wrong_of(password: str) -> str:
    return f"{password}-Qz7Wx"


def said(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def assert_hidden(text: str, password: str) -> None:
    for form in (wrong_of(password), quote(wrong_of(password), safe=""), "Qz7", "z7W", "7Wx"):
        assert form not in text


@asynccontextmanager
async def nats_server(
    directory: Path, authorization: dict[str, object], **blocks: object
) -> AsyncIterator[int]:
    port = free_port()
    configuration = directory / "nats.conf"
    configuration.write_text(
        json.dumps(
            {"host": "127.0.0.1", "port": port, "authorization": authorization, **blocks}, ensure_ascii=False
        )
    )
    process = await asyncio.create_subprocess_exec(
        str(nats_program()), "--config", str(configuration), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(20):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.02)
                    continue
                writer.close()
                break
        yield port
    finally:
        process.terminate()
        await process.wait()


async def until_refused(text: str) -> LoginRefused:
    connection = NatsConnection()
    try:
        async with asyncio.timeout(30):
            while True:
                # The attempts go on; on a busy machine the first answer takes longer than one wait.
                with pytest.raises(DependencyUnavailable) as refused:
                    await connection.connect(text, name="test")
                if isinstance(refused.value, LoginRefused):
                    return refused.value
    finally:
        await connection.close()
