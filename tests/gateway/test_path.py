"""The way of an ordinary event, from the bytes of its socket to its acknowledgement, stays short."""

from __future__ import annotations

import sys
from types import FrameType

import pytest

from discord_sim import DiscordSim
from sandbox_bot.gateway import CompressionChoice
from sandbox_bot.gateway.compression import Compression
from sandbox_bot.gateway.reader import GatewayReader
from sandbox_core.nats.wire import Incoming, PublishWire
from tests.e2e.conftest import StartLive, discord_untouched, live, start_bot, start_live, urls

__all__ = ["discord_untouched", "live", "start_bot", "start_live", "urls"]

_OURS = ("sandbox_core.", "sandbox_bot.", "sandbox_cogs.")
_BEGIN = {GatewayReader.feed_data.__code__, Incoming._parse.__code__, PublishWire._guard.__code__}
_MOST = 10


class Passed:
    """Notes which of our modules run for what arrives, while it is in use; all else is left out."""

    def __init__(self) -> None:
        self.modules: set[str] = set()

    def __enter__(self) -> Passed:
        sys.setprofile(self._called)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _called(self, frame: FrameType, event: str, _argument: object) -> None:
        module = frame.f_globals.get("__name__", "")
        if event != "call" or not module.startswith(_OURS):
            return
        caller: FrameType | None = frame
        while caller is not None:
            if caller.f_code in _BEGIN:
                self.modules.add(module)
            caller = caller.f_back


@pytest.mark.parametrize("compression", list(Compression))
async def test_an_ordinary_event_passes_ten_modules_at_most(
    start_live: StartLive, sim: DiscordSim, monkeypatch: pytest.MonkeyPatch, compression: Compression
) -> None:
    monkeypatch.setattr(CompressionChoice, "present", compression)
    live = await start_live()
    # By then its guilds' lanes know what their messages have in common.
    await sim.flood(500)
    await live.checked()
    with Passed() as passed:
        await sim.flood(500)
        await live.checked()
    assert {"sandbox_bot.gateway.reader", "sandbox_core.event_router.router"} <= passed.modules
    assert {"sandbox_core.nats.publisher", "sandbox_core.nats.ack_inbox"} <= passed.modules
    # With zlib, a Python function looks for the flush.
    assert len(passed.modules) <= _MOST + (compression is Compression.ZLIB), sorted(passed.modules)
