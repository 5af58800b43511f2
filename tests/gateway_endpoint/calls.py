"""Plain calls about commands, as a library sends them, and what Discord then has."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from discord_sim import DiscordSim, SimGuild
from sandbox_core.models import Sandbox

from .stage import Addresses, Stage


def slash(name: str, description: str = "does it", **more: Any) -> dict[str, Any]:
    """Return the body of a slash command."""
    return {"name": name, "description": description, "type": 1, **more}


@dataclass
class Caller:
    """A sandbox's bot, without a library."""

    http: aiohttp.ClientSession
    address: Addresses
    token: str
    application_id: int

    async def ask(
        self,
        method: str,
        guild: SimGuild | None = None,
        command_id: str = "",
        body: Any = None,
        query: str = "",
    ) -> tuple[int, Any]:
        """Call about commands: globally, or of a server. Return the status and the answer."""
        scope = "" if guild is None else f"/guilds/{guild.id}"
        path = f"/applications/{self.application_id}{scope}/commands"
        url = f"{self.address.api_url}{path}{'/' if command_id else ''}{command_id}{query}"
        headers = {"Authorization": f"Bot {self.token}"}
        options: dict[str, Any] = {}
        if body is not None:
            headers["Content-Type"] = "application/json"
            options["data"] = io.BytesIO(json.dumps(body).encode())
        async with self.http.request(method, url, headers=headers, **options) as answer:
            text = await answer.text()
            if text:
                assert answer.headers["Content-Type"] == "application/json"
            return answer.status, json.loads(text) if text else None


@asynccontextmanager
async def calling(stage: Stage, sandbox: Sandbox, address: Addresses) -> AsyncIterator[Caller]:
    """Call for this sandbox."""
    async with aiohttp.ClientSession() as http:
        yield Caller(http, address, stage.token(sandbox), stage.sim.application_id)


def names(sim: DiscordSim, guild: SimGuild) -> list[str]:
    """Return the names of the commands that Discord has in the server."""
    return sorted(each["name"] for each in sim.world.commands.in_scope(guild.id))
