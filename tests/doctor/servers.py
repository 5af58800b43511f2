"""Servers of one test's own, with options that the suite's servers do not have."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from sandbox_bot.embedded import NatsServer, ValkeyServer
from sandbox_bot.embedded._process import ProcessPlan


class _Valkey(ValkeyServer):
    options: Mapping[str, str]

    def _plan(self) -> ProcessPlan:
        plan = super()._plan()
        words = [word for name, value in self.options.items() for word in (f"--{name}", *value.split())]
        return replace(plan, command=[*plan.command, *words])


class _Nats(NatsServer):
    options: Mapping[str, Any]
    without: tuple[str, ...]

    def _plan(self) -> ProcessPlan:
        plan = super()._plan()
        configuration = Path(plan.command[-1])
        chosen = {**json.loads(configuration.read_text()), **self.options}
        for name in self.without:
            del chosen[name]
        configuration.write_text(json.dumps(chosen))
        return plan


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


@asynccontextmanager
async def nats_server(
    directory: Path, *, without: tuple[str, ...] = (), **options: Any
) -> AsyncIterator[NatsServer]:
    """A nats-server with these blocks in its configuration, and without some that it has."""
    server = _Nats(directory / "nats", directory / "nats.log", fast=True)
    server.options, server.without = options, without
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
