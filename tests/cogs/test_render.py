"""The embeds: what they say, and that Discord accepts them at any size of what they show."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import discord
import pytest

from sandbox_cogs.sandbox import _render, _render_destroy, _render_events, _render_list, _text
from sandbox_cogs.sandbox._buttons import events_buttons
from sandbox_core import errors
from sandbox_core.error_text import explain
from sandbox_core.event_router import DAY, LastEvent
from sandbox_core.health import SandboxHealth
from sandbox_core.limits_text import Limits
from sandbox_core.manager import Changed, Extension, Registration
from sandbox_core.models import GuildAccess, RestLevel, Sandbox, SandboxStatus
from sandbox_core.namespaces import PartHealth, PartState
from sandbox_core.namespaces.backlogs import Backlog, SessionBacklog
from sandbox_core.namespaces.client_traces import KeptSession
from sandbox_core.nats.consumers import Consumer, Consumers
from sandbox_core.stored import StorageLimit
from sandbox_core.workbench.seen import SeenEvent
from sandbox_core.workbench.summary import Names

NOW = datetime(2026, 8, 1, 12, 0, tzinfo=UTC)
EXPIRES = NOW + timedelta(hours=24)
EXPIRES_IN = f"<t:{int(EXPIRES.timestamp())}:R>"


def a_sandbox(**changes: object) -> Sandbox:
    return Sandbox(
        id=UUID("3f2a9c01-0000-4000-8000-000000000001"),
        name="welcome-flow",
        owner="200000000000000001",
        status=SandboxStatus.RUNNING,
        schema_name="sandbox_3f2a9c01",
        created_at=NOW,
        expires_at=EXPIRES,
    ).evolve(**changes)


def enormous() -> Sandbox:
    return a_sandbox(name="n" * 63, guild_ids=tuple(str(10**19 + number) for number in range(500)))


ENORMOUS_NAMES = {str(10**19 + number): "*_`~|>" * 16 for number in range(500)}


def parts(size: int = 1) -> tuple[PartHealth, ...]:
    return tuple(
        PartHealth(
            store, PartState.HEALTHY, "fine " * size, 1.5, {f"figure_{n}": "9" * 50 for n in range(size)}
        )
        for store in ("PostgreSQL", "Redis", "NATS", "Routing")
    )


def bots(connected: int | None, lag: int | None = 0) -> Backlog:
    if connected is None:
        return Backlog()
    session = KeptSession("0a1b2c3d", "*" * 40, 1, True)
    return Backlog(sessions=(SessionBacklog(session, lag),) * connected)


BEHIND = Backlog(
    Consumers((Consumer("_" * 255, True, 10**9, 10**9, 10**9),) * 60, ("*" * 255,) * 60, 10**6),
    bots(60, 10**9).sessions,
    {"lags": "*" * 3000},
)


def assert_within_limits(embed: discord.Embed) -> None:
    assert len(embed.title or "") <= 256
    assert len(embed.description or "") <= 4096
    assert len(embed.fields) <= 25
    for field in embed.fields:
        assert 1 <= len(field.name or "") <= 256
        assert 1 <= len(field.value or "") <= 1024
    assert len(embed.footer.text or "") <= 2048
    assert len(embed) <= 6000


def all_errors(root: type[errors.SandboxError] = errors.SandboxError) -> Iterator[type[errors.SandboxError]]:
    for cls in root.__subclasses__():
        yield cls
        yield from all_errors(cls)


LONG = "x" * 3000
LIMITS = Limits(100, 60, {"PostgreSQL": StorageLimit(2**28), "Redis": StorageLimit(2**26, 500_000)})
DOUBT = _render.Doubt(
    GuildAccess("1" * 20, True, True, "*" * 100),
    _render.Traffic(12_345, 3600.0, LastEvent(1.0, DAY)),
    protected=True,
)
EXAMPLES: dict[type[errors.SandboxError], errors.SandboxError] = {
    type(error): error
    for error in (
        errors.NameTaken(LONG),
        errors.OwnerLimitReached(60, ["n" * 63] * 60),
        errors.GuildAlreadyMapped("613425648685547541", LONG),
        errors.SandboxNotFound(LONG, ["n" * 63] * 60),
        errors.SchemaCreationFailed("sandbox_3f2a9c01", LONG),
        errors.CleanupFailed(LONG, "Redis keys", LONG),
        errors.ResetUnfinished("mine", "Redis", "connection refused"),
        errors.StillWritten("Redis", "keys"),
        errors.InvalidInput("name", LONG, LONG, LONG),
        errors.SandboxNotNamed(["n" * 63] * 60),
        errors.BotNotInGuild("613425648685547541"),
        errors.SandboxNotRunning(LONG, SandboxStatus.EXPIRED),
        errors.TransitionNotAllowed(SandboxStatus.DESTROYED, SandboxStatus.RUNNING),
        errors.NotPermitted(LONG, LONG),
        errors.GuildProtected("613425648685547541"),
        errors.ConfirmationNeeded("613425648685547541", LONG),
        errors.GuildNotRegistered("613425648685547541"),
        errors.GuildLimitReached(100),
        errors.SharingUnfinished("Redis", LONG, LONG),
        errors.SharingImpossible(LONG),
        errors.ShareLimitReached(10),
        errors.DoesNotFit(LONG, LONG, LONG),
        errors.ResetUnfinished(LONG, "Redis", LONG),
        errors.SlotsUsedUp(LONG, 100),
        errors.StorageUsedUp("PostgreSQL", 2**60, 2**59, sandbox_name=LONG),
        errors.DependencyUnavailable("PostgreSQL", LONG),
        errors.OutcomeUnknown("PostgreSQL", LONG),
        errors.CutOff(errors.DependencyUnavailable("PostgreSQL", LONG, LONG)),
        errors.DependencyFaulty("PostgreSQL", LONG, LONG),
        errors.NotFinished("PostgreSQL", 15, LONG),
        errors.LoginRefused("Redis", where="h:1", user="x", problem="no", setting="REDIS_URL"),
        errors.NotMigrated(),
        errors.StreamUnusable("EVENTS", LONG, LONG, LONG),
        errors.RotationUnfinished("Redis", LONG, LONG),
        errors.IsolationImpossible("Redis", LONG, LONG, LONG),
        errors.NoCredentials(LONG),
        errors.ProductionTokenOutdated(),
        errors.DoesNotFit(LONG, LONG, LONG),
        errors.ResetUnfinished(LONG, "Redis", LONG),
    )
}


@pytest.mark.parametrize("cls", sorted(all_errors(), key=str))
def test_every_error_becomes_an_embed_with_its_code(cls: type[errors.SandboxError]) -> None:
    error = EXAMPLES[cls]
    embed = _render.refusal(explain(error))
    assert_within_limits(embed)
    assert embed.footer.text == error.code
    assert embed.title


@pytest.mark.parametrize("status", SandboxStatus)
def test_every_status_has_a_mark_a_colour_and_its_word(status: SandboxStatus) -> None:
    sandbox = a_sandbox(status=status)
    embed = _render.status(SandboxHealth(sandbox, parts()), {}, limits=LIMITS, now=NOW, events_last_minute=0)
    assert embed.colour is not None
    assert str(status) in (embed.description or "")
    assert f"**welcome-flow** · {status}" in (_render_list.listing([sandbox]).description or "")


def test_status_names_the_part_that_is_ill() -> None:
    ill = PartHealth("Redis", PartState.UNHEALTHY, "no answer within 3 s", 3000.0)
    embed = _render.status(
        SandboxHealth(a_sandbox(), (ill,)), {}, limits=LIMITS, now=NOW, events_last_minute=0
    )
    assert embed.description == "🟠 running, degraded"
    assert (embed.fields[-1].name, embed.fields[-1].value) == (
        "🔴 Redis",
        "unhealthy · 3000 ms\nno answer within 3 s",
    )


def test_status_of_a_sandbox_past_its_time_says_that_production_has_the_events() -> None:
    health = SandboxHealth(a_sandbox(), parts())
    assert "production" in (
        _render.status(health, {}, limits=LIMITS, now=EXPIRES, events_last_minute=0).description or ""
    )
    assert "production" not in (
        _render.status(
            health, {}, limits=LIMITS, now=EXPIRES - timedelta(seconds=1), events_last_minute=0
        ).description
        or ""
    )


def test_times_are_discord_timestamps() -> None:
    sandbox = a_sandbox()
    assert EXPIRES_IN in (_render.created(Changed(sandbox), {}).fields[1].value or "")
    assert EXPIRES_IN in (_render_list.listing([sandbox]).description or "")
    assert EXPIRES_IN in (_render.extended(Extension(sandbox, capped=False)).description or "")


def test_a_capped_extension_says_so() -> None:
    assert "less than you asked" in (_render.extended(Extension(a_sandbox(), capped=True)).description or "")
    assert "less than" not in (_render.extended(Extension(a_sandbox(), capped=False)).description or "")


def test_registering_says_that_live_events_leave_production() -> None:
    access = GuildAccess("613425648685547541", bot_is_member=True, caller_manages=True, name="Cooks")
    text = _render.registered(Registration(a_sandbox()), access).description or ""
    assert "live events of **Cooks** (`613425648685547541`) now go to the sandbox `welcome-flow`" in text
    assert "no longer to production" in text


def test_registering_again_says_that_it_was_registered() -> None:
    access = GuildAccess("613425648685547541", bot_is_member=True, caller_manages=True, name="Cooks")
    embed = _render.registered(Registration(a_sandbox(), already=True), access)
    assert embed.title == "Server registered already"
    assert "already go to the sandbox `welcome-flow`" in (embed.description or "")


def test_the_question_before_destroying_lists_everything() -> None:
    sandbox = a_sandbox(guild_ids=("613425648685547541",))
    embed = _render_destroy.question(sandbox, {"613425648685547541": "Cooks"})
    text = "\n".join(f"{field.name}: {field.value}" for field in embed.fields)
    assert "`sandbox_3f2a9c01`" in text
    assert f"`sandbox:{sandbox.id}:`" in text
    assert f"`sandbox.{sandbox.id}.>`" in text
    assert "Servers whose events go to production again: **Cooks** (`613425648685547541`)" in text


def test_a_long_list_has_pages_that_together_show_every_sandbox_once() -> None:
    sandboxes = [a_sandbox(name=f"sandbox-{number:03}") for number in range(23)]
    assert _render_list.page_count(sandboxes) == 3
    shown = []
    for page in (1, 2, 3):
        embed = _render_list.listing(sandboxes, page=page)
        assert embed.title == "23 sandboxes"
        assert embed.footer.text == f"Page {page} of 3"
        shown += [line.split("**")[1] for line in (embed.description or "").splitlines() if "**" in line]
    assert shown == [sandbox.name for sandbox in sandboxes]
    assert _render_list.listing(sandboxes, page=9).description == embed.description
    assert _render_list.listing(sandboxes[:10]).footer.text is None


def test_an_empty_list_shows_the_way_to_a_sandbox() -> None:
    assert "/sandbox create" in (_render_list.listing([]).description or "")
    assert "without filters" in (_render_list.listing([], filtered=True).description or "")


def test_names_of_guilds_can_not_format_or_mention() -> None:
    label = _text.guild_label("613425648685547541", {"613425648685547541": "**@everyone** `x`"})
    assert "@everyone" not in label
    assert "\\*\\*" in label
    assert "\\`x\\`" in label


def test_an_owner_that_is_not_a_discord_user_is_shown_as_text() -> None:
    assert _render.created(Changed(a_sandbox(owner="ci", metadata={"owner_name": "ci_*"})), {}).fields[
        0
    ].value == ("ci\\_\\*")
    assert _render.created(Changed(a_sandbox()), {}).fields[0].value == "<@200000000000000001>"


def test_the_environment_is_a_block_and_a_file() -> None:
    variables = {"SANDBOX_ID": "3f2a", "SANDBOX_REDIS_PREFIX": "sandbox:3f2a:"}
    embed, file = _render.environment(a_sandbox(), variables, "Environment")
    assert embed.description == (
        '```sh\nexport SANDBOX_ID="3f2a"\nexport SANDBOX_REDIS_PREFIX="sandbox:3f2a:"\n```'
    )
    assert file.filename == "welcome-flow.env"
    assert file.fp.read() == b"SANDBOX_ID=3f2a\nSANDBOX_REDIS_PREFIX=sandbox:3f2a:\n"


def test_an_environment_too_long_for_an_embed_is_whole_in_the_file() -> None:
    variables = {"SANDBOX_GUILD_IDS": ",".join(ENORMOUS_NAMES)}
    embed, file = _render.environment(a_sandbox(), variables, "Environment")
    assert_within_limits(embed)
    assert "attached file" in (embed.description or "")
    assert file.fp.read().count(b",") == 499


@pytest.mark.parametrize(
    "embed",
    [
        _render.created(Changed(enormous()), ENORMOUS_NAMES),
        _render_list.listing([enormous()] * 300),
        _render.status(
            SandboxHealth(enormous(), parts(100), BEHIND),
            ENORMOUS_NAMES,
            limits=LIMITS,
            now=NOW,
            events_last_minute=0,
        ),
        _render_destroy.question(enormous(), ENORMOUS_NAMES),
        _render_destroy.destroyed(Changed(enormous())),
        _render.registered(Registration(enormous()), GuildAccess("1" * 20, True, True, "*" * 100)),
        _render.unregistered(Changed(enormous()), GuildAccess("1" * 20, True, True, "*" * 100)),
        _render.extended(Extension(enormous(), capped=True)),
        _render.fault("0011aabb"),
        _render.created(Changed(enormous()), ENORMOUS_NAMES, DOUBT),
        _render.register_question(enormous(), DOUBT),
        _render.which_sandbox(300),
        _render.working("Destroying"),
        _render.outdated(),
        _render_destroy.question_about_all([enormous()] * 300),
        _render_destroy.removals([_render_destroy.Removal("n" * 63, LONG, "SANDBOX_006")] * 300),
        _render.nothing_done("Nothing was deleted", "too old"),
    ],
    ids=lambda embed: embed.title[:30],
)
def test_nothing_exceeds_discords_limits(embed: discord.Embed) -> None:
    assert_within_limits(embed)


def test_a_line_that_does_not_fit_is_left_out_whole() -> None:
    assert _text.joined(["aaaa", "bbbb"], 9, "\n") == "aaaa\nbbbb"
    assert _text.joined(["a" * 10, "b" * 10, "c" * 30], 40, "\n") == "aaaaaaaaaa\nbbbbbbbbbb\n… and 1 more"
    assert _text.joined([], 10, "\n") == ""


@pytest.mark.parametrize(
    ("clients", "shown"),
    [
        (None, "may read in the sandbox's servers, and change nothing (read_only)"),
        (0, "none connected; may read in the sandbox's servers, and change nothing (read_only)"),
        (2, "2 connected; may read in the sandbox's servers, and change nothing (read_only)"),
    ],
)
def test_status_says_what_ordinary_bots_may_do_and_how_many_there_are(
    clients: int | None, shown: str
) -> None:
    sandbox = a_sandbox(rest_level=RestLevel.READ_ONLY)
    health = SandboxHealth(sandbox, parts(), bots(clients))
    embed = _render.status(health, {}, limits=LIMITS, now=NOW, events_last_minute=0)
    assert {field.name: field.value for field in embed.fields}["Ordinary bots"] == shown


def an_event(number: int, text: str, **more: Any) -> SeenEvent:
    data = {"channel_id": "4" * 18, "author": {"id": "7" * 18, "username": text}, "content": text, **more}
    frame = json.dumps({"t": "MESSAGE_CREATE", "s": 1, "op": 0, "d": data}).encode()
    headers = {"Discord-Event": "MESSAGE_CREATE", "Discord-Guild-Id": "8" * 18, "Sandbox-Origin": "replayed"}
    return SeenEvent(number, "APPLICATION_COMMAND_PERMISSIONS_UPDATE", headers, frame, NOW)


@pytest.mark.parametrize("text", ["*_`~|>#[x](" * 1000, "\u202e😀\ud800" * 1000, "", "a\nb\0c\x1b[31m" * 500])
def test_any_event_is_within_discords_limits(text: str) -> None:
    names = Names({"8" * 18: text}, {"4" * 18: text})
    events = [an_event(10**17 + number, text) for number in range(_render_events.SHOWN)]
    look = _render_events.Look(enormous(), events, names, None, "APPLICATION_COMMAND_PERMISSIONS_UPDATE")
    look = replace(look, missed=10**9, remade=True)
    embed = _render_events.listing(look, until=NOW, not_followed=True)
    assert_within_limits(embed)
    # The newest is there, whatever the others take.
    assert (embed.description or "").count("`APPLICATION_COMMAND_PERMISSIONS_UPDATE`") == _render_events.SHOWN
    options = _render_events.options(look, 10**15)
    assert len(options) <= 25
    for option in options:
        assert 1 <= len(option.label) <= 100
        assert 1 <= len(option.value) <= 100
        assert 1 <= len(option.description or "") <= 100
    view = events_buttons(look.sandbox.id, live=True, options=options, event_type=look.event_type)
    assert all(len(getattr(each, "custom_id", "")) <= 100 for each in view.children)
    one, file = _render_events.one(events[0], look)
    assert_within_limits(one)
    assert one.description is not None
    assert one.description.count("```") == 2
    assert json.loads(file.fp.read())[0]["id"] == str(10**17)
    assert_within_limits(_render_events.replayed(look.sandbox, [10**17 + n for n in range(15)], 15))
    assert_within_limits(_render_events.replayed(look.sandbox, [1], 15, "x" * 700))
