"""No sequence of calls reaches Discord with an id of another server, whatever else goes on meanwhile."""

from __future__ import annotations

import io
import json
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import unquote, urlencode, urlsplit, urlunsplit

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox_bot.embedded import EmbeddedServers
from sandbox_gateway.guard.places import Places
from sandbox_gateway.guard.rules import Rule, Rules
from tests.guard.conftest import furnish
from tests.guard.recorder import Recorder, Request, recorder
from tests.guard.rig import (
    APPLICATION,
    C1,
    C2,
    C_DM,
    C_FOREIGN,
    FOREIGN,
    FOREIGN_TOKEN,
    G1,
    G2,
    INSIDE_TOKEN,
    INVITE,
    INVITE_FOREIGN,
    W1,
    W_FOREIGN,
    Rig,
    rig,
    tenant,
)

_SEEN, _UNSEEN, _ID = "seen-token", "unseen-token", "150000000000000001"
_PLACES = {G1: {G1, C1, W1, INSIDE_TOKEN, INVITE}, G2: {G2, C2}}
"""What belongs to each guild of sandboxes; everything else is production's."""
_PRODUCTION = {FOREIGN, C_FOREIGN, C_DM, W_FOREIGN, FOREIGN_TOKEN, INVITE_FOREIGN}
_LOOK_UP = re.compile(
    r"/(?:channels/[0-9]+|guilds/[0-9]+/channels|webhooks/[0-9]+(?:/[\w-]+)?|invites/\w+"
    r"|guilds/templates/\w+|stickers/[0-9]+)\Z"
)
"""Questions that tell Discord nothing and change nothing; their answers are kept back."""

_RULES = Rules.load().all
_BY_TOKEN = tuple(rule for rule in _RULES if rule.has_own_token)

_channels = st.sampled_from([C1, C2, C_FOREIGN, C_DM])
_guilds = st.sampled_from([G1, G2, FOREIGN])
_mangled = st.sampled_from(
    [
        "{}",
        "{}",
        "{}",
        "{}",
        "0{}",
        "{}%20",
        "{}%2f..%2f{}",
        "%31{}",
        "{};",
        "{}/../" + C_FOREIGN,
        "{}.",
        " {}",
    ]
)
_fields = st.sampled_from(
    ["channel_id", "parent_id", "guild_id", "thread_id", "webhook_channel_id", "source_guild_id",
     "channel_ids", "system_channel_id", "exempt_channels", "target_channel_id", "default_channel_ids", "id"]
)  # fmt: skip
_values = st.one_of(_channels, _guilds, st.lists(_channels, max_size=2), _channels.map(int), st.none())
_objects = st.recursive(
    st.dictionaries(_fields, _values, max_size=3),
    lambda inner: st.dictionaries(
        st.sampled_from(["message_reference", "metadata", "data", "actions", "welcome_channels"]),
        st.one_of(inner, st.lists(inner, max_size=2)),
        max_size=2,
    ),
    max_leaves=4,
)
_bodies = st.one_of(st.none(), st.just({"content": "a"}), _objects, st.lists(_objects, max_size=2))
_queries = st.lists(st.tuples(_fields, st.one_of(_channels, _guilds)), max_size=2)


@st.composite
def _calls(
    draw: st.DrawFn, rules: tuple[Rule, ...] = _RULES
) -> tuple[str, Rule, dict[str, str], str, list[tuple[str, str]], Any, str, str | None]:
    rule = draw(st.sampled_from(rules))
    values = {}
    for name in rule.template.parameters:
        choices = {
            "guild_id": _guilds,
            "channel_id": _channels,
            "application_id": st.sampled_from([APPLICATION, FOREIGN]),
            "webhook_id": st.sampled_from([W1, W_FOREIGN, APPLICATION]),
            "webhook_token": st.sampled_from([INSIDE_TOKEN, FOREIGN_TOKEN, _SEEN, _UNSEEN]),
            "interaction_token": st.sampled_from([_SEEN, _SEEN, _UNSEEN]),
            "code": st.sampled_from([INVITE, INVITE_FOREIGN]),
            "emoji_name": st.sampled_from(["%F0%9F%91%8D", "a:150000000000000002", "..", "%2e%2e"]),
            "instance_id": st.builds("i-150000000000000002-gc-{}-{}".format, _guilds, _channels),
            "answer_id": st.just("1"),
        }
        values[name] = draw(choices.get(name, st.just(_ID)))
    mangled = draw(_mangled) if draw(st.integers(0, 9)) == 0 else "{}"
    # Most are right but for one thing, or everything would be refused for the first reason.
    query = draw(_queries) if draw(st.integers(0, 4)) == 0 else []
    body = draw(_bodies) if draw(st.integers(0, 1)) == 0 else {"content": "a"}
    kind = draw(st.sampled_from(["json", "form", "multipart", "files first"]))
    who = draw(st.sampled_from(["mine", "mine", "other", None]))
    return "call", rule, values, mangled, query, body, kind, who


_steps = st.one_of(
    _calls(),
    _calls(),
    _calls(_BY_TOKEN),
    st.tuples(
        st.just("move"), _guilds.filter(lambda each: each != FOREIGN), st.sampled_from(["mine", "other", ""])
    ),
    st.tuples(st.just("see"), st.sampled_from(["mine", "other"]), st.sampled_from([G1, G2])),
    st.tuples(st.just("restart")),
)


@pytest.fixture(scope="module")
async def world(servers: EmbeddedServers) -> AsyncIterator[tuple[Recorder, Rig]]:
    url = urlunsplit(urlsplit(servers.redis_url)._replace(path="/57"))
    async with recorder() as discord, rig(discord.base, url) as guard:
        furnish(discord)
        yield discord, guard


def _body(body: Any, kind: str) -> dict[str, Any]:
    if body is None:
        return {}
    text = json.dumps(body)
    if kind == "json":
        return {"json": body}
    if kind == "form":
        return {"data": {"payload_json": text}}
    form = aiohttp.FormData()
    parts: list[tuple[str, Any, dict[str, str]]] = [
        ("payload_json", text, {}),
        ("files[0]", io.BytesIO(b"x" * 100), {"filename": "a"}),
    ]
    for name, value, more in parts if kind == "multipart" else reversed(parts):
        form.add_field(name, value, **more)
    return {"data": form}


def _words(request: Request) -> set[str]:
    """Return every word of a request, decoded as often as it can be."""
    text = f"{request.target}\n{request.body.decode('latin-1')}"
    while (decoded := unquote(text)) != text:
        text = decoded
    return set(re.findall(r"[\w-]+", text)) | set(re.findall(r"[0-9]{17,20}", text))


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=st.lists(_steps, min_size=1, max_size=12))
async def test_no_id_of_another_server(world: tuple[Recorder, Rig], steps: list[Any]) -> None:
    discord, guard = world
    await guard.redis.flushdb()
    guard.tenants.known = {"mine": tenant("mine", G1), "other": tenant("other", G2)}
    await guard.seen.note(guard.mine, "interaction", _ID, _SEEN, guild_id=G1)
    seen = {"mine": G1}
    for step in steps:
        discord.clear()
        if step[0] == "move":
            _, guild_id, to = step
            for name, each in list(guard.tenants.known.items()):
                kept = each.guild_ids - {guild_id}
                guard.tenants.change(name, guild_ids=kept | ({guild_id} if name == to else set()))
        elif step[0] == "see":
            _, name, guild_id = step
            whose = guard.tenants.known[name]
            if guild_id in whose.guild_ids:
                await guard.seen.note(whose, "interaction", _ID, _SEEN, guild_id=guild_id)
                seen = {name: guild_id}
        elif step[0] == "restart":
            guard.places.__init__(guard.upstream)  # type: ignore[misc]
        else:
            await _call_and_judge(guard, discord, seen, *step[1:])
    assert isinstance(guard.places, Places)


async def _call_and_judge(
    guard: Rig,
    discord: Recorder,
    seen: dict[str, str],
    rule: Rule,
    values: dict[str, str],
    mangled: str,
    query: list[tuple[str, str]],
    body: Any,
    kind: str,
    who: str | None,
) -> None:
    path = rule.template.path({name: mangled.replace("{}", value) for name, value in values.items()})
    text = f"?{urlencode(query)}" if query else ""
    await guard.ask(rule.method, path.replace(" ", "%20") + text, token=who, **_body(body, kind))
    for request in discord.requests:
        if _LOOK_UP.match(request.target.removeprefix("/api/v10")) and request.method == "GET":
            continue
        # Without a token of its own a call is the sandbox's whose place it names.
        whose = [guard.tenants.known[who]] if who else list(guard.tenants.known.values())
        words = _words(request)
        allowed = [
            set().union(*(_PLACES[each] for each in one.guild_ids if each in _PLACES)) for one in whose
        ]
        named = words & (_PRODUCTION | set().union(*_PLACES.values()))
        assert any(named <= places for places in allowed), (request, named)
        if _SEEN in words:
            names = [name for name in seen if who in {None, name}]
            assert any(seen[name] in guard.tenants.known[name].guild_ids for name in names), request
