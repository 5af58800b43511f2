"""The actions of people in Discord's client: use commands, press buttons, fill forms, write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from discord_sim.commands import CHAT_INPUT, leaf
from discord_sim.errors import SimBadOption, SimError, SimForbidden, SimNotConnected, SimTimeout
from discord_sim.frames import Payload, encode
from discord_sim.interactions import (
    AUTOCOMPLETE,
    COMMAND,
    COMPONENT,
    MODAL,
    Interaction,
    InteractionDesk,
)
from discord_sim.jsontypes import Json
from discord_sim.options import CHANNEL, MENTIONABLE, ROLE, USER, Resolver
from discord_sim.results import InteractionResult
from discord_sim.session import SessionHub
from discord_sim.world import SimChannel, SimGuild, SimMessage, SimUser, World
from discord_sim.world.messages import walk

BUTTON = 2
SELECT_ENTITY = {5: USER, 6: ROLE, 7: MENTIONABLE, 8: CHANNEL}
STRING_SELECT = 3
LINK_STYLE = 5


class Actors:
    """The people who use Discord; each call is one action of one person."""

    def __init__(self, world: World, hub: SessionHub, desk: InteractionDesk) -> None:
        self._world = world
        self._hub = hub
        self._desk = desk

    async def slash(
        self,
        user: SimUser,
        channel: SimChannel,
        path: str,
        options: Mapping[str, Any],
        *,
        timeout: float,
        wait: bool,
    ) -> InteractionResult:
        """Use a slash command; see `DiscordSim.slash`."""
        data, resolver, declared = self._command(user, channel, path)
        _place(data, path, resolver.options(declared, options))
        if resolver.resolved:
            data["resolved"] = resolver.resolved
        return await self._interact(COMMAND, user, channel, data, f"/{path}", timeout=timeout, wait=wait)

    async def autocomplete(
        self,
        user: SimUser,
        channel: SimChannel,
        path: str,
        *,
        focused: str,
        value: Any,
        others: Mapping[str, Any],
        timeout: float,
    ) -> list[tuple[str, Any]]:
        """Type into an option; see `DiscordSim.autocomplete`."""
        data, resolver, declared = self._command(user, channel, path)
        name = focused if any(o["name"] == focused for o in declared) else focused.replace("_", "-")
        _place(data, path, resolver.options(declared, {**others, name: value}, focused=name))
        result = await self._interact(
            AUTOCOMPLETE, user, channel, data, f"/{path} {name}:", timeout=timeout, wait=True
        )
        return [(choice["name"], choice["value"]) for choice in result.interaction.choices]

    async def click(
        self,
        target: InteractionResult | SimMessage,
        user: SimUser,
        *,
        label: str | None,
        custom_id: str | None,
        timeout: float,
        wait: bool,
    ) -> InteractionResult:
        """Press a button; see `DiscordSim.click`."""
        message = _visible(target, user)
        button = _pick(message.buttons(), "button", label=label, custom_id=custom_id)
        if button.get("disabled"):
            raise SimForbidden(f"button {button.get('label')!r} is disabled")
        if button.get("style") == LINK_STYLE:
            raise SimError(f"button {button.get('label')!r} is a link and sends nothing")
        data: Json = {
            "component_type": BUTTON,
            "custom_id": button["custom_id"],
            "id": button["id"],
        }
        name = f"button {button.get('label') or button['custom_id']}"
        return await self._interact(
            COMPONENT, user, message.channel, data, name, source=message, timeout=timeout, wait=wait
        )

    async def select(
        self,
        target: InteractionResult | SimMessage,
        user: SimUser,
        values: Sequence[Any],
        *,
        custom_id: str | None,
        timeout: float,
        wait: bool,
    ) -> InteractionResult:
        """Choose in a select menu; see `DiscordSim.select`."""
        message = _visible(target, user)
        menus = [c for c in walk(message.components) if c.get("type") in (3, 5, 6, 7, 8)]
        menu = _pick(menus, "select menu", label=None, custom_id=custom_id)
        if menu.get("disabled"):
            raise SimForbidden(f"select menu {menu['custom_id']!r} is disabled")
        if not menu.get("min_values", 1) <= len(values) <= menu.get("max_values", 1):
            raise SimBadOption(f"select menu {menu['custom_id']!r} does not take {len(values)} values")
        resolver = Resolver(self._world, message.channel.guild)
        data: Json = {
            "component_type": menu["type"],
            "custom_id": menu["custom_id"],
            "id": menu["id"],
            "values": [_selected(menu, resolver, value) for value in values],
        }
        if resolver.resolved:
            data["resolved"] = resolver.resolved
        name = f"select {menu['custom_id']}"
        return await self._interact(
            COMPONENT, user, message.channel, data, name, source=message, timeout=timeout, wait=wait
        )

    async def submit_modal(
        self,
        opened: InteractionResult,
        user: SimUser,
        values: Mapping[str, Any],
        *,
        timeout: float,
        wait: bool,
    ) -> InteractionResult:
        """Send a form; see `DiscordSim.submit_modal`."""
        form = opened.modal
        if form is None:
            raise SimError(f"{opened!r} did not open a form")
        data: Json = {
            "custom_id": form["custom_id"],
            "components": _filled(form["components"], dict(values)),
        }
        cause = opened.interaction
        return await self._interact(
            MODAL,
            user,
            cause.channel,
            data,
            f"form {form['custom_id']}",
            source=cause.source,
            cause=cause.metadata(),
            timeout=timeout,
            wait=wait,
        )

    async def dm(self, user: SimUser, text: str, *, timeout: float, count: int) -> list[SimMessage]:
        """Write to the bot; see `DiscordSim.dm`."""
        channel = self._world.dm_channel(user)
        message = SimMessage(self._world.snowflakes.next(), channel, user, text)
        self._require_listener(None)
        self._world.store(message)
        self._world.dispatch("MESSAGE_CREATE", message.event, None)

        def replies() -> list[SimMessage]:
            there = self._world.messages.get(channel.id, {}).values()
            return [m for m in there if m.author is self._world.bot and m.id > message.id]

        await self._world.changed.wait_for(lambda: len(replies()) >= count, timeout)
        return replies()

    def say(self, guild: SimGuild, channel: SimChannel, author: SimUser, content: str) -> SimMessage:
        """Return a stored message in a guild's channel; its event is not sent yet."""
        if channel.guild is not guild:
            raise SimError(f"channel {channel.name!r} is not in {guild.name!r}")
        message = SimMessage(self._world.snowflakes.next(), channel, author, content)
        self._world.store(message)
        return message

    def _command(self, user: SimUser, channel: SimChannel, path: str) -> tuple[Json, Resolver, list[Json]]:
        guild = channel.guild
        command, steps = self._world.commands.find(None if guild is None else guild.id, path)
        self._check_allowed(command, user, channel)
        data: Json = {"id": command["id"], "name": command["name"], "type": CHAT_INPUT}
        if "guild_id" in command:
            data["guild_id"] = command["guild_id"]
        return data, Resolver(self._world, guild), list(leaf(command, steps).get("options") or ())

    def _check_allowed(self, command: Json, user: SimUser, channel: SimChannel) -> None:
        name, guild = command["name"], channel.guild
        if guild is None:
            contexts = command.get("contexts")
            if not command["dm_permission"] or (contexts is not None and 1 not in contexts):
                raise SimForbidden(f"/{name} is not offered in direct messages")
            return
        contexts = command.get("contexts")
        if contexts is not None and 0 not in contexts:
            raise SimForbidden(f"/{name} is not offered in guilds")
        member = guild.members.get(user.id)
        if member is None:
            raise SimForbidden(f"{user.name} is not a member of {guild.name}")
        needed = command.get("default_member_permissions")
        if needed is None:
            return
        # "0" means administrators only (developer documentation, "Permissions").
        enough = (
            member.permissions & 8 if needed == "0" else (member.permissions & int(needed) == int(needed))
        )
        if not enough:
            raise SimForbidden(f"{user.name} lacks the permissions ({needed}) that /{name} needs")

    def _require_listener(self, guild_id: int | None) -> None:
        if not self._hub.targets(guild_id):
            raise SimNotConnected("no session would receive this event")

    async def _interact(
        self,
        kind: int,
        user: SimUser,
        channel: SimChannel,
        data: Json,
        name: str,
        *,
        timeout: float,
        wait: bool,
        source: SimMessage | None = None,
        cause: Json | None = None,
    ) -> InteractionResult:
        guild_id = None if channel.guild is None else channel.guild.id
        self._require_listener(guild_id)
        interaction, event = self._desk.open(kind, user, channel, data, name=name, source=source, cause=cause)
        self._hub.dispatch(Payload("INTERACTION_CREATE", guild_id, encode(event)))
        done = await self._world.changed.wait_for(
            lambda: interaction.answered if wait else interaction.callback_type is not None, timeout
        )
        if not done:
            _late(interaction, timeout, acknowledged_is_enough=source is not None)
        return InteractionResult(self._world, interaction)


def _late(interaction: Interaction, timeout: float, *, acknowledged_is_enough: bool) -> None:
    """Raise `SimTimeout` for a missing answer, except that an acknowledgement may be enough for a click."""
    if interaction.callback_type is None:
        raise SimTimeout(f"{interaction.name}: no answer within {timeout} s")
    if not (acknowledged_is_enough and interaction.callback_type == 6):
        raise SimTimeout(f"{interaction.name}: deferred, but nothing followed within {timeout} s")


def _place(data: Json, path: str, options: list[Json]) -> None:
    """Put the options below the subcommands of the path."""
    names = path.strip().lstrip("/").split()[1:]
    inner = options
    for depth, name in enumerate(reversed(names)):
        inner = [{"name": name, "type": 1 if depth == 0 else 2, "options": inner}]
    if inner or names:
        data["options"] = inner


def _visible(target: InteractionResult | SimMessage, user: SimUser) -> SimMessage:
    message = target.message if isinstance(target, InteractionResult) else target
    if message.deleted:
        raise SimError("the message has been deleted")
    seen_by = (message.interaction_metadata or {}).get("user", {}).get("id")
    if message.ephemeral and seen_by != str(user.id):
        raise SimForbidden(f"{user.name} does not see this ephemeral message")
    if message.channel.guild is not None and user.id not in message.channel.guild.members:
        raise SimForbidden(f"{user.name} is not a member of {message.channel.guild.name}")
    return message


def _pick(found: list[Json], what: str, *, label: str | None, custom_id: str | None) -> Json:
    matching = [
        c
        for c in found
        if (label is None or c.get("label") == label)
        and (custom_id is None or c.get("custom_id") == custom_id)
    ]
    if len(matching) == 1 or (matching and (label or custom_id)):
        return matching[0]
    names = [c.get("label") or c.get("custom_id") for c in found]
    raise SimError(
        f"{len(matching)} {what}s match label={label!r} custom_id={custom_id!r}; there are {names}"
    )


def _selected(menu: Json, resolver: Resolver, value: Any) -> str:
    kind = menu["type"]
    if kind == STRING_SELECT:
        for option in menu["options"]:
            if value in (option["value"], option["label"]):
                return str(option["value"])
        raise SimBadOption(f"{value!r} is none of {[o['value'] for o in menu['options']]}")
    chosen = resolver.entity(SELECT_ENTITY[kind], value)
    if chosen is None:
        raise SimBadOption(f"select menu {menu['custom_id']!r} does not take {value!r}")
    return chosen


def _filled(components: list[Json], values: dict[str, Any]) -> list[Json]:
    """Return a form's components as in a submission."""
    done: list[Json] = []
    for number, component in enumerate(components, start=1):
        shape: Json = {"type": component["type"], "id": component.get("id") or number}
        if component["type"] == 1:
            shape["components"] = [_entry(c, values) for c in component["components"]]
        elif component["type"] == 18:
            shape["component"] = _entry(component["component"], values)
        done.append(shape)
    if values:
        raise SimBadOption(f"the form has no fields {sorted(values)}")
    return done


def _entry(component: Json, values: dict[str, Any]) -> Json:
    custom_id = component["custom_id"]
    kind = component["type"]
    entry: Json = {"type": kind, "custom_id": custom_id, "id": component.get("id") or 100}
    value = values.pop(custom_id, component.get("value") or "")
    if component.get("required", True) and not value:
        raise SimBadOption(f"field {custom_id!r} is required")
    if kind == 4:
        entry["value"] = str(value)
    else:
        entry["values"] = [str(v) for v in (value if isinstance(value, (list, tuple)) else [value])]
    return entry
