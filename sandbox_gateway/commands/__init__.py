"""The commands of a sandbox's bot: its global ones are those of its sandbox's servers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

from sandbox_gateway.guard.answers import unavailable
from sandbox_gateway.guard.ids import JsonValue
from sandbox_gateway.tenants import Tenant


@dataclass(frozen=True, slots=True)
class CommandCall:
    """A call about commands. The guard has read and checked it: a guild in it is the sandbox's."""

    operation: str
    """Discord's name, such as `bulk_set_application_commands`."""
    values: dict[str, str]
    """The values in the path: `application_id`, which is the bot's own, `guild_id` and `command_id`."""
    query: tuple[tuple[str, str], ...]
    body: JsonValue
    version: int


class Commands(Protocol):
    """Answers calls about commands, and gives a client the ids of commands that it knows."""

    async def handle(self, tenant: Tenant, call: CommandCall) -> web.StreamResponse:
        """Answer the call. May raise what `Upstream.request` raises, and the guard's `Refusal`."""
        ...

    async def to_client(self, tenant: Tenant, frame: bytes) -> bytes:
        """Return an event about the use or the permissions of a command as the sandbox's bot is to see it."""
        ...


class NoCommands:
    """Has no commands: refuses every call, and changes no event."""

    async def handle(self, tenant: Tenant, call: CommandCall) -> web.StreamResponse:
        """Refuse it for now."""
        raise unavailable("commands_not_served")

    async def to_client(self, tenant: Tenant, frame: bytes) -> bytes:
        """Return it as it is."""
        return frame
