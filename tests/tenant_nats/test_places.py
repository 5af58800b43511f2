"""The event path knows where to publish, without asking anybody."""

from __future__ import annotations

import nats.errors
import pytest

from sandbox_core.models import Sandbox
from sandbox_core.namespaces.nats_places import SlotPlaces
from sandbox_core.subjects import SLOT_STREAM, sandbox_subject

from .conftest import Bot


async def test_a_known_sandbox_has_its_place(bot: Bot, sandbox: Sandbox) -> None:
    places = SlotPlaces(bot.pool, bot.lending, bot.streams)
    assert not places.ready
    await places.ensure()
    assert places.ready
    subject = sandbox_subject(sandbox.id, "READY")
    assert places.subject(subject) == f"slot.{await bot.slot(sandbox):03d}.{sandbox.id}.events.READY"
    js = bot.nats.bot.client.jetstream(timeout=5)
    ack = await js.publish(places.subject(subject), b"x", stream=SLOT_STREAM)
    assert (ack.stream, ack.seq) == (SLOT_STREAM, 1)
    # Everything else stays what it is.
    assert places.subject("events.READY") == "events.READY"


async def test_an_unknown_sandbox_is_answered_at_once_and_found(bot: Bot, sandbox: Sandbox) -> None:
    places = SlotPlaces(bot.pool, bot.lending, bot.streams)
    await places.ensure()
    new = await bot.sandbox()
    subject = sandbox_subject(new.id, "READY")
    with pytest.raises(nats.errors.NoRespondersError):
        await bot.nats.bot.client.request(places.subject(subject), b"x", timeout=5)
    await places.ensure()
    assert places.subject(subject) != subject
    assert (await bot.nats.bot.client.request(places.subject(subject), b"x", timeout=5)).data


async def test_lost_streams_are_made_again(bot: Bot, sandbox: Sandbox) -> None:
    places = SlotPlaces(bot.pool, bot.lending, bot.streams)
    await bot.streams.remove(await bot.slot(sandbox))
    await places.ensure()
    assert (await bot.send(sandbox, "x")).seq == 1
