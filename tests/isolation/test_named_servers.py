"""A sandbox's `status` names the server that hangs: the sandboxes' own, not the bot's."""

from __future__ import annotations

import os
import signal

import pytest

from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.bootstrap import Core
from sandbox_core.health import PartState

from .conftest import hold


@pytest.mark.parametrize(("store", "server"), [("NATS", "tenant_nats"), ("Redis", "tenant_valkey")])
async def test_a_server_that_hangs_is_named(
    bot: Core, closed: EmbeddedServers, store: str, server: str
) -> None:
    await hold(bot, "mine")
    address = bot.settings.sandbox_nats if store == "NATS" else bot.settings.tenant_redis
    assert address is not None
    pid = getattr(closed, server).pid
    os.kill(pid, signal.SIGSTOP)
    try:
        health = await bot.manager.health("mine")
    finally:
        os.kill(pid, signal.SIGCONT)
    (part,) = [each for each in health.parts if each.store == store]
    assert part.state is PartState.UNHEALTHY
    assert address.where in part.detail
    assert bot.settings.nats.where not in part.detail
    assert bot.settings.redis.where not in part.detail
