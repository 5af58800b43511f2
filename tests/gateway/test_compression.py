"""Which compression the gateway's connections use: zstd, and zlib where zstd is not understood."""

from __future__ import annotations

import pytest
import yarl
from discord import utils

from discord_sim import DiscordSim
from sandbox_bot.gateway.compression import Address, Compression, CompressionChoice, resumed_at
from tests.e2e.conftest import StartLive, discord_untouched, sim, start_bot, start_live, urls
from tests.e2e.harness import Flood, eventually

__all__ = ["discord_untouched", "sim", "start_bot", "start_live", "urls"]

ZSTD, ZLIB = Compression.ZSTD, Compression.ZLIB


def test_zstd_is_given_up_when_it_was_refused_three_times_in_a_row() -> None:
    choice = CompressionChoice()
    for _ in range(2):
        choice.refused(ZSTD)
        choice.refused(ZSTD)
        assert choice.present is ZSTD
        choice.worked(ZSTD)
    for _ in range(3):
        choice.refused(ZSTD)
    assert choice.present is ZLIB
    # Of a connection that was there before.
    choice.worked(ZSTD)
    assert choice.present is ZLIB


def test_a_refusal_of_zlib_changes_nothing() -> None:
    choice = CompressionChoice()
    for _ in range(5):
        choice.refused(ZLIB)
    assert choice.present is ZSTD
    choice.refused(ZSTD)
    choice.refused(ZSTD)
    choice.worked(ZLIB)
    choice.refused(ZSTD)
    assert choice.present is ZLIB


def test_a_session_is_resumed_with_what_it_began_with() -> None:
    choice = CompressionChoice()
    for compression in Compression:
        address = yarl.URL(resumed_at("wss://gateway-us-east1-b.discord.gg/?v=9", compression))
        assert choice.to_resume(address) is compression
        asked = Address(address, compression).with_query(v=10, encoding="json", compress="another")
        assert str(asked) == f"wss://gateway-us-east1-b.discord.gg/?v=10&encoding=json&compress={compression}"
    # As the versions before zstd wrote it.
    assert choice.to_resume(yarl.URL("wss://gateway-us-east1-b.discord.gg")) is ZLIB
    for _ in range(3):
        choice.refused(ZSTD)
    assert choice.to_resume(yarl.URL(resumed_at("wss://gateway.discord.gg", ZSTD))) is ZLIB


def test_discord_pys_own_connections_stay_as_they_are() -> None:
    # `zstandard` would change them in every bot that this project is an extension of.
    expected = "zlib-stream" if utils._ZSTD_SOURCE is None else "zstd-stream"
    assert expected == utils._ActiveDecompressionContext.COMPRESSION_TYPE
    assert utils._ZSTD_SOURCE != "zstandard"


@pytest.mark.parametrize("how", ["zlib", "closed", "refused"])
async def test_where_zstd_is_not_understood_zlib_is_used_after_three_tries(
    start_live: StartLive, sim: DiscordSim, how: str
) -> None:
    sim.rules.zstd = how
    live = await start_live()
    assert sim.rules.asked == [ZSTD, ZSTD, ZSTD, ZLIB]
    await sim.drop()
    await eventually(lambda: len(sim.resumes) == 1 and sim.sessions[0].connected)
    assert sim.rules.asked[4:] == [ZLIB]
    await Flood(sim, 300, rate=1_000).over()
    await live.checked()
    assert len(sim.identifies) == 1


async def test_plain_text_is_read_and_zlib_asked_for_after_three_such_connections(
    start_live: StartLive, sim: DiscordSim
) -> None:
    sim.rules.zstd = "plain"
    live = await start_live()
    for times in range(1, 4):
        await Flood(sim, 100, rate=1_000).over()
        await sim.drop()
        await eventually(lambda times=times: len(sim.resumes) == times and sim.sessions[0].connected)
    assert sim.rules.asked == [ZSTD, ZSTD, ZSTD, ZLIB]
    await live.checked()
    assert len(sim.identifies) == 1


@pytest.mark.parametrize("compression", list(Compression))
@pytest.mark.parametrize("pieces", [0, 2, 7])
async def test_events_come_through_however_they_are_cut_into_messages(
    start_live: StartLive,
    sim: DiscordSim,
    monkeypatch: pytest.MonkeyPatch,
    compression: Compression,
    pieces: int,
) -> None:
    monkeypatch.setattr(CompressionChoice, "present", compression)
    sim.rules.pieces = pieces
    live = await start_live()
    assert sim.rules.asked == [compression]
    flood = Flood(sim, 800, rate=1_500)
    await flood.reached(300)
    await sim.drop()
    await eventually(lambda: len(sim.resumes) == 1 and sim.sessions[0].connected)
    await flood.over()
    await live.checked()
    assert len(sim.identifies) == 1
