"""The environment from which a worker learns its sandbox and its servers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sandbox_core.addresses import NatsAddress
from sandbox_core.context import SandboxContext, environment
from sandbox_core.models import Sandbox
from sandbox_core.settings import TAKES, SettingsError
from sandbox_core.subjects import StreamNames, nats_prefix, redis_prefix, sandbox_subject

from .test_context import GUILD, SERVERS


def test_the_environment_of_a_sandbox(new_sandbox: Callable[..., Sandbox]) -> None:
    sandbox = new_sandbox(guild_ids=(GUILD, "100000000000000002"))
    assert environment(sandbox) == {
        "SANDBOX_ID": str(sandbox.id),
        "SANDBOX_NAME": sandbox.name,
        "SANDBOX_SCHEMA": sandbox.schema_name,
        "SANDBOX_REDIS_PREFIX": f"sandbox:{sandbox.id}:",
        "SANDBOX_NATS_PREFIX": f"sandbox.{sandbox.id}.",
        "SANDBOX_GUILD_IDS": f"{GUILD},100000000000000002",
    }


def test_what_is_missing_is_named_line_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SERVERS:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SettingsError) as failed:
        SandboxContext.from_env()
    assert failed.value.problems == [f"{name} is not set." for name in SERVERS]


def test_a_worker_half_in_a_sandbox_does_not_start(new_sandbox: Callable[..., Sandbox]) -> None:
    mine, other = environment(new_sandbox()), environment(new_sandbox())
    for variable in ("SANDBOX_SCHEMA", "SANDBOX_REDIS_PREFIX", "SANDBOX_NATS_PREFIX"):
        with pytest.raises(SettingsError) as failed:
            SandboxContext.from_env(SERVERS | mine | {variable: other[variable]})
        assert failed.value.problems[0].startswith(f"{variable} is another sandbox's")
    with pytest.raises(SettingsError) as failed:
        SandboxContext.from_env(SERVERS | mine | {"SANDBOX_ID": "sandbox"})
    assert failed.value.problems[0].startswith("SANDBOX_ID is not a sandbox's id")


def test_the_names_of_streams_come_from_the_same_variables_as_the_bots(sandbox: Sandbox) -> None:
    names = {
        "NATS_EVENTS_STREAM": "PROD",
        "NATS_EVENTS_PREFIX": "acme.discord",
        "NATS_SANDBOX_STREAM": "BOXES",
    }
    production = SandboxContext.from_env(SERVERS | names).world
    assert production.stream == "PROD"
    assert production.event_subjects() == ["acme.discord.*"]
    assert production.event_subjects("RESUMED", "X") == ["acme.discord.RESUMED", "acme.discord.X"]
    theirs = environment(sandbox, StreamNames("PROD", "acme.discord", "BOXES"))
    assert theirs == environment(sandbox) | {"NATS_SANDBOX_STREAM": "BOXES"}
    inside = SandboxContext.from_env(SERVERS | theirs).world
    assert inside.stream == f"BOXES_{sandbox.id.hex[:8]}"
    assert inside.event_subjects() == [f"sandbox.{sandbox.id}.events.*"]
    assert inside.event_subjects("X") == [sandbox_subject(sandbox.id, "X")]
    for name, wrong in (("NATS_EVENTS_STREAM", "a.b"), ("NATS_EVENTS_PREFIX", "sandbox.x")):
        with pytest.raises(SettingsError) as failed:
            SandboxContext.from_env(SERVERS | {name: wrong})
        assert failed.value.problems == [f"{name} can't be used: it takes {TAKES[name]}."]


def test_secrets_are_not_shown(sandbox: Sandbox) -> None:
    context = SandboxContext.from_env(SERVERS | environment(sandbox))
    assert "very-secret" not in repr(vars(context))
    assert context.world.guild_ids == ()


def test_names_are_derived_where_only_the_id_is_given(sandbox: Sandbox) -> None:
    world = SandboxContext.from_env(SERVERS | {"SANDBOX_ID": str(sandbox.id)}).world
    assert (world.name, world.schema) == (sandbox.short_id, sandbox.schema_name)
    assert (world.redis_prefix, world.nats_prefix) == (redis_prefix(sandbox.id), nats_prefix(sandbox.id))


@pytest.mark.parametrize("inside", [True, False])
def test_a_worker_in_a_sandbox_goes_to_the_sandboxes_nats_server(sandbox: Sandbox, *, inside: bool) -> None:
    variables = (
        SERVERS | {"SANDBOX_NATS_URL": "nats://tenants:4223"} | (environment(sandbox) if inside else {})
    )
    servers = SandboxContext.from_env(variables)._servers
    assert servers.nats.where == ("tenants:4223" if inside else NatsAddress.parse(SERVERS["NATS_URL"]).where)
    assert servers.nats.variable == ("SANDBOX_NATS_URL" if inside else "NATS_URL")
    with pytest.raises(SettingsError, match="SANDBOX_NATS_URL" if inside else "NATS_URL"):
        SandboxContext.from_env(variables | {servers.nats.variable: "http://x"})
