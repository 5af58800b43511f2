"""Servers of one test's own, with options that the suite's servers do not have."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from sandbox_bot.embedded import NatsServer, PostgresServer, ValkeyServer
from sandbox_bot.embedded._process import ProcessPlan
from sandbox_bot.migrate import migrate

_RELOADED = "Reloaded server configuration"


class _Valkey(ValkeyServer):
    options: Mapping[str, str]

    def _plan(self) -> ProcessPlan:
        plan = super()._plan()
        words = [word for name, value in self.options.items() for word in (f"--{name}", *value.split())]
        return replace(plan, command=[*plan.command, *words])


class ConfiguredNats(NatsServer):
    blocks: Mapping[str, Any]
    text: str

    def _plan(self) -> ProcessPlan:
        plan = super()._plan()
        configuration = Path(plan.command[-1])
        chosen = {**json.loads(configuration.read_text()), **self.blocks}
        lines = [f"{name}: {json.dumps(block)}" for name, block in chosen.items() if block is not None]
        configuration.write_text("\n".join([*lines, self.text, ""]))
        return plan

    async def reload(self, **blocks: Any) -> None:
        """Have the running server take these blocks."""
        self.blocks = {**self.blocks, **blocks}
        self._plan()
        before = self._log.read_text().count(_RELOADED)
        os.kill(self.pid, signal.SIGHUP)
        async with asyncio.timeout(30):
            while self._log.read_text().count(_RELOADED) == before:
                await asyncio.sleep(0.02)

    async def _probe(self) -> None:
        # Also where nobody may log in without a name, and where there is no JetStream.
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        greeting = await reader.readline()
        writer.close()
        if self._server_name.encode() not in greeting:
            raise ConnectionError(greeting.decode())


@asynccontextmanager
async def valkey(directory: Path, **options: str) -> AsyncIterator[ValkeyServer]:
    """A Valkey with these lines in its configuration; `_` stands for `-`."""
    server = _Valkey(directory / "valkey", directory / "valkey.log", fast=True)
    server.options = {name.replace("_", "-"): value for name, value in options.items()}
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


class _Replicated(PostgresServer):
    """Writes what a standby can read, and starts as one where it is told to."""

    standby = False

    def _plan(self) -> ProcessPlan:
        plan = super()._plan()
        return replace(plan, command=[*plan.command, "-c", "wal_level=replica"])

    async def _ensure_role_and_database(self) -> None:
        if not self.standby:
            await super()._ensure_role_and_database()


@asynccontextmanager
async def standby(directory: Path) -> AsyncIterator[PostgresServer]:
    """A PostgreSQL with a migrated database that takes no writes: a standby whose primary is away."""
    server = _Replicated(directory / "postgres", directory / "postgres.log", fast=True)
    await server.start()
    try:
        await migrate(server.url)
        await server.stop()
        (server.data_dir / "data" / "standby.signal").touch()
        server.standby = True
        await server.start()
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def nats_server(directory: Path, text: str = "", **blocks: Any) -> AsyncIterator[ConfiguredNats]:
    """A nats-server with this text and these blocks in its configuration; None takes a block out."""
    server = ConfiguredNats(directory / "nats", directory / "nats.log", fast=True)
    server.blocks, server.text = blocks, text
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
