"""Every kind of event, over the wire, to the one side where it belongs."""

from __future__ import annotations

import json

import pytest

from discord_sim import Frame, SimGuild
from discord_sim.interactions import COMMAND
from tests.e2e.harness import Live, eventually, of_types
from tests.streams import stream_of

MESSAGE = "MESSAGE_CREATE"


async def test_a_registered_guilds_event_is_in_the_sandbox_and_nowhere_else(live: Live) -> None:
    sandbox_id, guild = await live.mapped()
    (frame,) = live.sim.message(guild, content='Zoë\'s "tea" \\ café 🍵')
    stored = await live.checked()
    (event,) = [e for e in stored if e.headers.get("Sandbox-Id")]
    assert event.stream == "SANDBOX"
    assert event.subject == f"sandbox.{sandbox_id}.events.MESSAGE_CREATE"
    assert event.payload == frame.raw
    assert event.headers == {
        "Nats-Msg-Id": f"{frame.session_id}:0:{frame.seq}",
        "Nats-Expected-Stream": stream_of(sandbox_id),
        "Discord-Event": "MESSAGE_CREATE",
        "Discord-Guild-Id": str(guild.id),
        "Discord-Shard": "0",
        "Sandbox-Id": sandbox_id,
    }


async def test_production_events_have_no_sandbox_header(live: Live) -> None:
    guild = live.guilds[3]
    (frame,) = live.sim.message(guild)
    stored = await live.checked()
    (event,) = [e for e in of_types(stored, MESSAGE) if e.headers.get("Discord-Guild-Id") == str(guild.id)]
    assert (event.stream, event.subject) == ("EVENTS", "events.MESSAGE_CREATE")
    assert event.headers == {
        "Nats-Msg-Id": f"{frame.session_id}:0:{frame.seq}",
        "Nats-Expected-Stream": "EVENTS",
        "Discord-Event": "MESSAGE_CREATE",
        "Discord-Guild-Id": str(guild.id),
        "Discord-Shard": "0",
    }


async def test_unregistering_gives_the_events_back_to_production(live: Live) -> None:
    sandbox_id, guild = await live.mapped()
    live.sim.message(guild, content="to the sandbox")
    await live.unregister(guild, sandbox_id)
    live.sim.message(guild, content="to production")
    stored = await live.checked()
    sides = {json.loads(e.payload)["d"]["content"]: e.stream for e in of_types(stored, MESSAGE)}
    assert (sides["to the sandbox"], sides["to production"]) == ("SANDBOX", "EVENTS")


async def test_a_destroyed_sandboxs_guild_goes_to_production(live: Live) -> None:
    sandbox_id, guild = await live.mapped()
    question = await live.slash("destroy", name="box")
    live.sides.set(guild, None, sandbox_id)
    answer = await live.sim.click(question, live.alice, label="Destroy it")
    await answer.wait_until(lambda r: "is destroyed" in r.text, timeout=60)
    live.sides.set(guild, None)
    live.sim.message(guild)
    stored = await live.checked()
    assert not [e for e in stored if e.stream == "SANDBOX"]


async def test_two_sandboxes_do_not_see_each_others_guilds(live: Live) -> None:
    first, second = live.guilds[:2]
    first_id, second_id = await live.create("first"), await live.create("second")
    await live.register(first, first_id, "first")
    await live.register(second, second_id, "second")
    for _ in range(20):
        live.sim.message(first)
        live.sim.message(second)
    stored = await live.checked()
    for sandbox_id, guild in ((first_id, first), (second_id, second)):
        own = [e for e in stored if e.subject.startswith(f"sandbox.{sandbox_id}.")]
        assert len(own) == 20
        assert {e.headers["Discord-Guild-Id"] for e in own} == {str(guild.id)}


async def test_unmapped_guilds_and_direct_messages_are_productions(live: Live) -> None:
    await live.mapped()
    live.sim.message(live.guilds[1])
    await live.sim.dm(live.alice, "hello bot", timeout=0)
    stored = await live.checked()
    (direct,) = [e for e in stored if json.loads(e.payload)["d"].get("content") == "hello bot"]
    assert direct.subject == "events.MESSAGE_CREATE"
    assert "Discord-Guild-Id" not in direct.headers


async def test_events_about_the_guild_itself_follow_its_own_id(live: Live) -> None:
    _, guild = await live.mapped()
    update = {"id": str(guild.id), "name": "renamed", "owner_id": str(live.alice.id)}
    live.sim.emit("GUILD_UPDATE", update)
    live.sim.world.remove_bot(guild)
    live.sim.world.join_bot(guild)
    stored = await live.checked()
    own = [e for e in stored if e.stream == "SANDBOX"]
    assert [e.headers["Discord-Event"] for e in own] == ["GUILD_UPDATE", "GUILD_DELETE", "GUILD_CREATE"]


async def test_an_event_type_nobody_documented_is_routed_by_its_guild_id(live: Live) -> None:
    _, guild = await live.mapped()
    live.sim.emit("GUILD_JAM_SESSION_START", {"guild_id": str(guild.id), "tempo": 128})
    live.sim.emit("GUILD_JAM_SESSION_START", {"guild_id": str(live.guilds[1].id), "tempo": 64})
    live.sim.emit("ACCOUNT_SPARKLES_UPDATE", {"sparkles": 3})
    stored = await live.checked()
    where = {
        json.loads(e.payload)["d"].get("tempo"): e.stream for e in of_types(stored, "GUILD_JAM_SESSION_START")
    }
    assert where == {128: "SANDBOX", 64: "EVENTS"}
    assert [e.stream for e in of_types(stored, "ACCOUNT_SPARKLES_UPDATE")] == ["EVENTS"]


async def test_guild_ids_of_others_inside_an_event_do_not_route_it(live: Live) -> None:
    _, mapped = await live.mapped()
    other = live.guilds[1]

    def decoys(of: SimGuild) -> dict[str, object]:
        return {
            "message_reference": {"message_id": "1", "channel_id": "2", "guild_id": str(of.id)},
            "referenced_message": {
                "id": "1",
                "guild_id": str(of.id),
                "message_reference": {"guild_id": str(of.id)},
            },
            "member": {"guild_id": str(of.id)},
            "thread": {"guild_id": str(of.id)},
            "id": str(of.id),
        }

    live.sim.message(mapped, content="inside", **decoys(other))
    live.sim.message(other, content="outside", **decoys(mapped))
    live.sim.emit_raw(
        # The foreign id stands before the event's own, and once inside a text.
        b'{"message_reference":{"guild_id":"%d"},"content":"\\"guild_id\\":\\"%d\\"","guild_id" : "%d"}'
        % (mapped.id, mapped.id, other.id),
        MESSAGE,
        other.id,
    )
    stored = await live.checked()
    (inside,) = [e for e in of_types(stored, MESSAGE) if e.stream == "SANDBOX"]
    assert json.loads(inside.payload)["d"]["content"] == "inside"


async def test_interactions_of_other_workers_are_published_and_answered_by_nobody(live: Live) -> None:
    _, guild = await live.mapped()
    before = len(live.sim.requests)

    def other_command(where: SimGuild, registered_in: SimGuild, kind: int = COMMAND) -> Frame:
        _, event = live.sim.desk.open(
            kind,
            live.alice,
            where.default_channel,
            {"id": "1", "name": "play", "type": 1, "guild_id": str(registered_in.id)},
            name="/play",
        )
        (frame,) = live.sim.emit("INTERACTION_CREATE", event)
        return frame

    other_command(guild, registered_in=live.guilds[1])
    other_command(live.guilds[1], registered_in=guild)
    component = {"component_type": 2, "custom_id": "music:stop"}
    _, event = live.sim.desk.open(3, live.alice, guild.default_channel, component, name="button")
    event["message"] = {"id": "1", "channel_id": str(guild.default_channel.id), "guild_id": str(guild.id)}
    live.sim.emit("INTERACTION_CREATE", event)
    stored = await live.checked()
    published = of_types(stored, "INTERACTION_CREATE")
    assert sorted(e.stream for e in published) == ["EVENTS", "SANDBOX", "SANDBOX"]
    # A command of the bot's own, asked for afterwards and answered: by then it had seen the others.
    await live.slash("list")
    answers = [r.path for r in live.sim.requests[before:] if r.method == "POST" and "/callback" in r.path]
    assert len(answers) == 1


async def test_own_commands_buttons_and_connection_events_are_not_published(live: Live) -> None:
    await live.mapped()
    await live.sim.autocomplete(
        live.alice, live.dev.default_channel, "sandbox status", focused="name", value="bo"
    )
    question = await live.slash("destroy", name="box")
    await live.sim.click(question, live.alice, label="Keep it")
    live.sim.message(live.guilds[1])
    # The frames before the message are decided by now: order within a connection.
    stored = await live.checked()
    assert {e.headers["Discord-Event"] for e in stored}.isdisjoint({"INTERACTION_CREATE", "READY", "RESUMED"})
    await live.sim.drop()
    await eventually(lambda: bool(live.sim.resumes))
    live.sim.message(live.guilds[1])
    stored = await live.checked()
    assert "RESUMED" not in {e.headers["Discord-Event"] for e in stored}


@pytest.mark.parametrize("compressible", [b"x" * 900_000, b"\\u00e9" * 150_000])
async def test_a_large_event_arrives_untouched(live: Live, compressible: bytes) -> None:
    _, guild = await live.mapped()
    body = b'{"guild_id":"%d","content":"%b"}' % (guild.id, compressible)
    (frame,) = live.sim.emit_raw(body, MESSAGE, guild.id)
    stored = await live.checked()
    (event,) = [e for e in stored if e.stream == "SANDBOX"]
    assert event.payload == frame.raw


@pytest.mark.parametrize("levels", [1_000, 100_000])
async def test_a_frame_nested_however_deep_is_routed_and_the_shard_goes_on(live: Live, levels: int) -> None:
    _, guild = await live.mapped()
    deep = b'"x":' + b"[" * levels + b"]" * levels
    for kind in (MESSAGE, "GUILD_UPDATE", "CHANNEL_CREATE"):
        named = b"id" if kind == "GUILD_UPDATE" else b"guild_id"
        live.sim.emit_raw(b'{%b,"%b":"%d","y":{%b}}' % (deep, named, guild.id, deep), kind, guild.id)
    # In no guild.
    live.sim.emit_raw(b'{%b,"author":{"id":"1"},"content":""}' % deep, MESSAGE, None)
    live.sim.message(guild, content="behind them")
    stored = await live.checked()
    assert [e.headers["Discord-Event"] for e in stored if e.stream == "SANDBOX"] == [
        *(MESSAGE, "GUILD_UPDATE", "CHANNEL_CREATE", MESSAGE),
    ]
    assert not live.sim.resumes
    assert len(live.sim.identifies) == 1


async def test_a_frame_that_discord_py_can_not_parse_is_routed_all_the_same(live: Live) -> None:
    _, guild = await live.mapped()
    live.sim.emit("CHANNEL_UPDATE", {"guild_id": str(guild.id), "id": "no snowflake", "type": "none"})
    live.sim.emit("GUILD_ROLE_CREATE", {"guild_id": str(guild.id), "role": None})
    live.sim.message(guild)
    stored = await live.checked()
    assert [e.headers["Discord-Event"] for e in stored if e.stream == "SANDBOX"] == [
        "CHANNEL_UPDATE",
        "GUILD_ROLE_CREATE",
        "MESSAGE_CREATE",
    ]
    assert len(live.sim.identifies) == 1
    assert not live.sim.resumes
