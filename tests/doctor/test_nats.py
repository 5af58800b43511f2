"""NATS, broken in one way at a time: what is found, where, and whether what is printed mends it."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import nats
import pytest
from nats.aio.client import Client
from nats.js.api import RetentionPolicy, StreamConfig
from pydantic import SecretStr

from sandbox_bot.doctor import State
from sandbox_bot.doctor.findings import Look
from sandbox_bot.doctor.nats import _MINIMUM
from sandbox_bot.doctor.nats_permissions import denied, publications, subscriptions
from sandbox_bot.doctor.versions import judge_version
from sandbox_core.nats.connection import NatsConnection
from sandbox_core.nats.sandbox_streams import sandbox_config
from sandbox_core.nats.streams import StreamLimits, events_config
from sandbox_core.subjects import DEFAULT_NAMES
from tests.deploy.cluster import NAMES, running_cluster
from tests.doctor.conftest import Doctor
from tests.doctor.servers import nats_server
from tests.e2e.harness import eventually

SANDBOXES = ["3f2a9c01-7b1c-4b7e-9d55-0d3f0a1b2c3d", "5e8b2d10-1c2d-4e3f-8a9b-0c1d2e3f4a5b"]
STREAMS_MADE = ["EVENTS", *map(DEFAULT_NAMES.sandbox_stream, SANDBOXES)]
PUBLISH = sorted({need.pattern for need in publications(DEFAULT_NAMES)})
SUBSCRIBE = sorted({need.pattern for need in subscriptions(DEFAULT_NAMES)})


@pytest.fixture
async def client(nats_url: str) -> AsyncIterator[Client]:
    """An administrator of the suite's nats-server, which has no stream."""
    connected = await nats.connect(nats_url)
    yield connected
    await connected.close()


async def make(client: Client, **changes: Any) -> None:
    """Make production's stream, with changes, and those of two sandboxes."""
    js = client.jetstream()
    await js.add_stream(events_config(StreamLimits()).evolve(**changes))
    for sandbox_id in SANDBOXES:
        await js.add_stream(sandbox_config(StreamLimits(), sandbox_id))


async def stored(client: Client) -> dict[str, int]:
    return {
        str(info.config.name): info.state.messages + info.state.consumer_count
        for info in await client.jetstream().streams_info()
    }


async def test_a_server_without_streams_is_well(doctor: Doctor, client: Client) -> None:
    found = await doctor("NATS")
    found.well()
    assert [each.state for each in found.findings if "does not exist yet" in each.detail] == [State.NOTE]
    assert await stored(client) == {}


async def test_streams_of_ours_take_an_event_that_is_not_stored(doctor: Doctor, client: Client) -> None:
    await make(client)
    found = await doctor("NATS")
    found.well()
    assert "the stream EVENTS holds 0 messages; its use was tried" in found.text
    assert "2 streams of sandboxes hold 0 messages; their use was tried" in found.text
    assert await stored(client) == dict.fromkeys(STREAMS_MADE, 0)


STREAMS = [
    pytest.param({"metadata": {}}, "is not this bot's", "Set NATS_EVENTS_STREAM", id="foreign"),
    pytest.param({"no_ack": True}, "no_ack", "nats stream edit EVENTS --ack", id="no_ack"),
    pytest.param(
        {"retention": RetentionPolicy.WORK_QUEUE}, "work queue", "nats stream rm EVENTS", id="queue"
    ),
]


@pytest.mark.parametrize(("changes", "named", "mend"), STREAMS)
async def test_a_stream_that_can_not_be_used(
    doctor: Doctor, client: Client, changes: dict[str, Any], named: str, mend: str
) -> None:
    await make(client, **changes)
    finding = (await doctor("NATS")).only()
    assert named in finding.detail
    assert mend in " ".join([finding.mend, *finding.commands])
    assert finding.where == f"127.0.0.1:{urlsplit(str(client.connected_url.geturl())).port}"  # type: ignore[union-attr]
    assert await stored(client) == dict.fromkeys(STREAMS_MADE, 0)


async def test_a_sealed_stream(doctor: Doctor, client: Client) -> None:
    await make(client)
    js = client.jetstream()
    config = (await js.stream_info("EVENTS")).config
    await js.update_stream(config.evolve(sealed=True))
    assert "is sealed" in (await doctor("NATS")).only().detail


async def test_another_ones_stream_is_never_to_be_deleted(doctor: Doctor, client: Client) -> None:
    await client.jetstream().add_stream(
        StreamConfig(name="EVENTS", subjects=["billing.>"], retention=RetentionPolicy.WORK_QUEUE)
    )
    finding = (await doctor("NATS")).only()
    assert not re.search(r"delete|remove|\brm\b|edit", " ".join([finding.mend, *finding.commands]))
    settings = dict(line.lower().split("=") for line in finding.commands)
    assert settings.keys() == {"nats_events_stream", "nats_events_prefix"}
    (await doctor("NATS", **settings)).well()


async def test_subjects_that_another_stream_has(doctor: Doctor, client: Client) -> None:
    await client.jetstream().add_stream(StreamConfig(name="BILLING", subjects=["events.paid.*"]))
    finding = (await doctor("NATS")).only()
    assert "the stream BILLING (subjects events.paid.*) takes subjects" in finding.detail
    assert finding.commands == ("NATS_EVENTS_PREFIX=discord.events",)
    (await doctor("NATS", nats_events_prefix="discord.events")).well()


async def test_subjects_of_sandboxes_that_another_stream_has(doctor: Doctor, client: Client) -> None:
    await client.jetstream().add_stream(StreamConfig(name="SANDBOX", subjects=["sandbox.>"]))
    finding = (await doctor("NATS")).only()
    assert "the stream SANDBOX (subjects sandbox.>) takes subjects" in finding.detail
    assert "account of the bot's own" in finding.mend


async def test_an_operators_limit_is_a_note(doctor: Doctor, client: Client) -> None:
    await make(client, max_bytes=10_000_000)
    found = await doctor("NATS")
    found.well()
    assert any("10000000 bytes" in each.detail for each in found.findings if each.state is State.NOTE)


def permitted(*without: str) -> dict[str, Any]:
    return {
        "publish": {"allow": [pattern for pattern in PUBLISH if pattern not in without]},
        "subscribe": {"allow": [pattern for pattern in SUBSCRIBE if pattern not in without]},
    }


def without(pattern: str) -> dict[str, Any]:
    """All but this one; one for every stream's name covers those of the stream EVENTS."""
    allowed = permitted(pattern)
    if ".EVENTS" in pattern and pattern in PUBLISH:
        allowed["publish"]["deny"] = [pattern]
    return allowed


async def test_each_subject_that_is_denied_is_named(tmp_path: Path) -> None:
    patterns = sorted({*PUBLISH, *SUBSCRIBE})
    users = [
        {"user": f"u{number}", "password": "x", "permissions": without(pattern)}
        for number, pattern in enumerate(patterns)
    ]
    users.append({"user": "all", "password": "x", "permissions": permitted()})
    async with nats_server(tmp_path, authorization={"users": users}) as server:

        async def asked(user: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
            connection = NatsConnection()
            await connection.connect(SecretStr(server.url.replace("//", f"//{user}:x@")), name="test")
            found = await denied(connection, DEFAULT_NAMES)
            await connection.close()
            making = dict.fromkeys(pattern for each in found.making.values() for pattern in each)
            return (*making, *found.publish), found.subscribe

        for number, pattern in enumerate(patterns):
            publish, subscribe = await asked(f"u{number}")
            assert publish == ((pattern,) if pattern in PUBLISH else ())
            assert subscribe == ((pattern,) if pattern in SUBSCRIBE else ())
        assert await asked("all") == ((), ())


async def test_what_is_printed_for_a_denied_subject_mends_it(doctor: Doctor, tmp_path: Path) -> None:
    user = {"user": "bot", "password": "secret-of-it", "permissions": permitted("_INBOX.>", "sandbox.>")}
    async with nats_server(tmp_path, authorization={"users": [user]}) as server:
        url = server.url.replace("//", "//bot:secret-of-it@")
        finding = (await doctor("NATS", nats_url=url)).only()
        assert finding.detail == (
            "the user bot may not publish to sandbox.>, _INBOX.> and may not subscribe to _INBOX.>"
        )
        permissions = user["permissions"]
        for line in finding.commands:
            verb, patterns = re.fullmatch(r"(\w+): \{allow: (\[.*\])\}", line).groups()  # type: ignore[union-attr]
            permissions[verb]["allow"] += json.loads(patterns)  # type: ignore[index]
        await server.reload(authorization={"users": [user]})
        (await doctor("NATS", nats_url=url)).well()


async def test_streams_that_an_operator_makes(doctor: Doctor, tmp_path: Path) -> None:
    making = [f"$JS.API.STREAM.{verb}.EVENTS" for verb in ("CREATE", "UPDATE")]
    allowed = permitted(*making)
    allowed["publish"]["deny"] = making
    users = [
        {"user": "bot", "password": "secret-of-it", "permissions": allowed},
        {"user": "operator", "password": "x"},
    ]
    async with nats_server(tmp_path, authorization={"users": users}) as server:
        url = server.url.replace("//", "//bot:secret-of-it@")
        finding = (await doctor("NATS", nats_url=url)).only()
        assert "$JS.API.STREAM.CREATE.EVENTS" in finding.detail
        operator = await nats.connect(server.url.replace("//", "//operator:x@"))
        await make(operator)
        found = await doctor("NATS", nats_url=url)
        found.well()
        assert "may not make or change the stream EVENTS: if it is gone, events wait" in found.text
        await operator.close()


async def test_no_jetstream(doctor: Doctor, tmp_path: Path) -> None:
    async with nats_server(tmp_path, jetstream=None) as server:
        finding = (await doctor("NATS", nats_url=server.url)).only()
    assert finding.detail == "JetStream is off, or still starting"


_ROOMY = {"max_mem": 1 << 30, "max_file": 1 << 30}
LIMITS = [
    pytest.param({"max_mem": 1 << 20, "max_file": 1 << 30}, "1 MiB in memory", id="memory"),
    pytest.param({"max_mem": 1 << 30, "max_file": 2 << 20}, "2 MiB in file", id="file"),
    pytest.param({**_ROOMY, "max_streams": 1}, "1 streams", id="streams"),
    pytest.param({**_ROOMY, "max_bytes_required": True}, "max_bytes_required", id="max_bytes"),
]


@pytest.mark.parametrize(("limits", "named"), LIMITS)
async def test_limits_below_what_is_needed(
    doctor: Doctor, tmp_path: Path, limits: dict[str, Any], named: str
) -> None:
    def accounts(chosen: dict[str, Any] | str) -> dict[str, Any]:
        users = [{"user": "bot", "password": "secret-of-it"}]
        return {"BOT": {"users": users, "jetstream": chosen}}

    async with nats_server(tmp_path, accounts=accounts(limits)) as server:
        url = server.url.replace("//", "//bot:secret-of-it@")
        finding = (await doctor("NATS", nats_url=url)).only()
        assert named in finding.detail
        for line in finding.commands:
            name, value = line.split(": ")
            number = value.removesuffix("MB")
            # As nats-server reads it.
            limits = {**limits, name: json.loads(number) if number == value else int(number) << 20}
        await server.reload(accounts=accounts(limits))
        (await doctor("NATS", nats_url=url)).well()


async def test_an_account_without_jetstream(doctor: Doctor, tmp_path: Path) -> None:
    accounts = {"BOT": {"users": [{"user": "bot", "password": "secret-of-it"}]}}
    async with nats_server(tmp_path, accounts=accounts) as server:
        url = server.url.replace("//", "//bot:secret-of-it@")
        finding = (await doctor("NATS", nats_url=url)).only()
    assert finding.commands == ("jetstream: enabled",)


async def test_messages_that_may_only_be_small(doctor: Doctor, tmp_path: Path) -> None:
    async with nats_server(tmp_path, max_payload=1024 * 1024) as server:
        found = await doctor("NATS", nats_url=server.url)
        found.well()
        assert "1024 KiB at most" in next(each.detail for each in found.findings if each.commands)
    async with nats_server(tmp_path, max_payload=4096) as server:
        assert "4 KiB at most" in (await doctor("NATS", nats_url=server.url)).only().detail


async def test_more_replicas_than_servers(doctor: Doctor) -> None:
    finding = (await doctor("NATS", nats_replicas=3)).only()
    assert finding.commands == ("NATS_REPLICAS=1",)


async def test_a_cluster_that_is_whole_and_one_without_a_majority(doctor: Doctor, tmp_path: Path) -> None:
    async with running_cluster(tmp_path) as cluster:
        await eventually(cluster.led)
        settings = {"nats_url": cluster.url, "nats_replicas": 3}
        found = await doctor("NATS", **settings)
        found.well()
        assert "replicas" not in found.text
        client = await nats.connect(cluster.url.split(","), allow_reconnect=False)
        limits = StreamLimits(replicas=3)
        for config in (events_config(limits), sandbox_config(limits, SANDBOXES[0])):
            await client.jetstream().add_stream(config)
        await client.close()
        for stream in STREAMS_MADE[:2]:
            await eventually(partial(cluster.replicated, stream))
        found = await doctor("NATS", **settings)
        found.well()
        assert "the stream EVENTS holds 0 messages; its use was tried" in found.text

        for name in NAMES[:2]:
            await cluster.kill(name)
        finding = (await doctor("NATS", **settings)).only()
        assert finding.detail in {"JetStream's cluster has no leader", "JetStream does not answer"}
        await cluster.kill_all()


async def test_clocks_that_are_apart(doctor: Doctor, client: Client) -> None:
    await make(client)
    found = await doctor("NATS", clock=lambda: datetime.now(UTC) + timedelta(minutes=1))
    assert "60.0 s apart" in found.only().detail


async def test_it_is_away_or_refuses_the_login(doctor: Doctor, tmp_path: Path) -> None:
    found = await doctor("NATS", nats_url="nats://127.0.0.1:1")
    assert found.only().state is State.AWAY
    assert found.only().where == "127.0.0.1:1"
    async with nats_server(tmp_path, authorization={"user": "bot", "password": "x"}) as server:
        assert (await doctor("NATS", nats_url=server.url)).only().state is State.AWAY


def test_an_old_version() -> None:
    look = Look("NATS", "nats:4222")
    judge_version(look, "2.11.0", _MINIMUM, "nats-server 2.11.11 or newer is needed.")
    judge_version(look, "2.11.11-RC.1", _MINIMUM, "nats-server 2.11.11 or newer is needed.")
    assert [finding.state for finding in look.found] == [State.FAILED, State.OK]
