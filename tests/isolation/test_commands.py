"""`/sandbox connect` and `rotate` in Discord, with credentials of the sandbox's own; and what logs say."""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import AsyncIterator

import pytest

from sandbox_bot.embedded import EmbeddedServers
from sandbox_bot.logs import configure_logging
from sandbox_core.bootstrap import Core, open_core
from sandbox_core.models import Actor
from tests.cogs.conftest import (
    DEV_GUILD,
    PROTECTED_GUILD,
    Scene,
    Stopwatch,
    embed_of,
    scene,
    simcord_bot,
    stopwatch,
    text_of,
)

from .conftest import ALICE, held, hold, settings_of
from .gateway import worker
from .test_life import both_refused, both_work

__all__ = ["scene", "simcord_bot", "stopwatch"]


@pytest.fixture
async def core(closed: EmbeddedServers, stopwatch: Stopwatch) -> AsyncIterator[Core]:
    settings = settings_of(
        closed, discord_dev_guild_ids=str(DEV_GUILD), discord_protected_guild_ids=str(PROTECTED_GUILD)
    )
    async with open_core(settings) as opened:
        # nats-py starts the task that reads answers with the first request.
        await opened.js.account_info()
        await opened.sandbox_js.account_info()
        warm = await hold(opened, "warm")
        async with worker(warm.variables["NATS_URL"]):
            await opened.manager.destroy(ALICE, "warm")
        async with asyncio.timeout(60):
            while opened.routes.current_table is None:
                await asyncio.sleep(0.005)
        yield opened
        for sandbox in await opened.manager.list():
            await opened.manager.destroy(Actor("test", is_bot_owner=True), sandbox.name)


async def test_only_the_owner_sees_and_rotates_them(scene: Scene) -> None:
    log = io.StringIO()
    configure_logging(scene.core.settings.model_copy(update={"log_level": "DEBUG"}), log)
    created = text_of(embed_of(await scene.alice.slash(scene.channel, "sandbox create", name="mine")))
    assert "enforced by the servers, with credentials of its own (number 1)" in created
    first = held(scene.core, await scene.core.manager.get("mine"))

    shown = await scene.alice.slash(scene.channel, "sandbox connect", name="mine")
    text = embed_of(shown).description or ""
    for name, value in first.variables.items():
        assert f'export {name}="{value}"' in text
    for command in ("connect", "rotate"):
        refused = await scene.bob.slash(scene.channel, f"sandbox {command}", name="mine")
        assert embed_of(refused).footer.text == "SANDBOX_010"
    await both_work(first)

    rotated = await scene.alice.slash(scene.channel, "sandbox rotate", name="mine")
    assert embed_of(rotated).title == "New credentials of mine; the old ones are cut"
    second = held(scene.core, await scene.core.manager.get("mine"))
    assert second.variables["REDIS_URL"] in (embed_of(rotated).description or "")
    await both_refused(first)
    await both_work(second)

    status = text_of(embed_of(await scene.alice.slash(scene.channel, "sandbox status", name="mine")))
    audit = str(await scene.core.manager.audit("mine"))
    for secret in _passwords(first.variables.values()) | _passwords(second.variables.values()):
        for said in (created, status, audit, log.getvalue()):
            assert secret not in said
    assert "operation=rotate" in re.sub(r"\x1b\[\d*m", "", log.getvalue())


async def test_no_server_and_no_list_of_processes_has_a_password(
    scene: Scene,
    closed: EmbeddedServers,
) -> None:
    await scene.alice.slash(scene.channel, "sandbox create", name="mine")
    await scene.alice.slash(scene.channel, "sandbox rotate", name="mine")
    secrets = _passwords(held(scene.core, await scene.core.manager.get("mine")).variables.values())
    logs = "".join(path.read_text() for path in (closed.postgres.data_dir.parent / "logs").iterdir())
    process = await asyncio.create_subprocess_exec("ps", "-eo", "args", stdout=asyncio.subprocess.PIPE)
    listed, _ = await process.communicate()
    for secret in (*secrets, closed.credentials_key, *_passwords(closed.tenant_settings.values())):
        assert secret not in logs
        assert secret.encode() not in listed


def _passwords(urls: object) -> set[str]:
    return {url.split("@")[0].rsplit(":", 1)[1] for url in urls if "@" in url}  # type: ignore[attr-defined]
