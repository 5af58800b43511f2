"""The life of one sandbox, step by step; each result is checked in the servers themselves."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import nats
import nats.errors
from nats.js import JetStreamContext

from discord_sim import InteractionResult
from sandbox_core.addresses import NatsAddress
from sandbox_core.subjects import DEFAULT_NAMES, SLOT_STREAM, redis_prefix, sandbox_events

from ..embedded._process import GuardedProcess
from . import greetings
from ._screen import Screen, StepFailed
from .readback import Expected, StoredEvent, compare, message_id, read_stream
from .shell import Shell
from .stage import Stores, World

_NAME = "try-login"
_EVENTS = 2_000
_EVENTS_AFTERWARDS = 500
_STORED_WITHIN = 20.0
_CUT_OFF_WITHIN = 10.0
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NATS_URL = re.compile(r"NATS_URL=\W?(nats://[^\s'\"]+)")


class Life:
    """One developer, one sandbox, from `/sandbox create` to `/sandbox destroy`."""

    def __init__(self, screen: Screen, place: World, stores: Stores, shell: Shell, ops_url: str) -> None:
        self._screen = screen
        self._place = place
        self._sim = place.sim
        self._stores = stores
        self._shell = shell
        self._ops_url = ops_url
        self._js: JetStreamContext = stores.nats.jetstream()
        self._sandbox_id = ""
        self._worker_nats: NatsAddress | None = None
        # The range in `sim.sent` of frames that were sent while the test guild was registered.
        self._registered = range(0)
        self._destroyed = False

    async def play(self) -> None:
        """Run every step. Raises `StepFailed`, or what the simulator raises when the bot does not answer."""
        await self._is_ready()
        await self._create()
        await self._connect()
        await self._register()
        command = f"sandboxctl exec {_NAME} -- python mybot.py"
        await self._shell.endpoint_listens()
        async with self._shell.running(command, "mybot") as bot:
            await self._run_bot(command, bot)
            await self._live_events()
            await self._look()
            await self._destroy()
            if await bot.wait(_CUT_OFF_WITHIN) is None:
                raise StepFailed("The developer's bot goes on without its sandbox.")
            self._screen.right("the bot that ran in it is cut off")
        await self._nothing_left()
        await self._production_again()

    async def _is_ready(self) -> None:
        async with aiohttp.ClientSession() as http, http.get(f"{self._ops_url}/readyz") as response:
            if response.status != 200:
                raise StepFailed(f"/readyz answers {response.status}: {await response.text()}")
        self._screen.right(f"connected to {len(self._place.guilds)} servers; /readyz answers 200")

    async def _create(self) -> None:
        self._screen.step("A developer makes a sandbox")
        result = await self._slash("create", "is running", name=_NAME, ttl="2h")
        found = _ID.search(result.text)
        if found is None:
            raise StepFailed("The answer to /sandbox create does not name the sandbox's id.")
        self._sandbox_id = found.group()

    async def _connect(self) -> None:
        """Take the sandbox's logins as its owner sees them; the screen does not show them."""
        developer, channel = self._place.developer, self._place.dev_guild.default_channel
        result = await self._sim.slash(developer, channel, "sandbox connect", timeout=12, name=_NAME)
        found = _NATS_URL.search(result.text)
        if found is None:
            raise StepFailed("The answer to /sandbox connect has no NATS_URL.")
        self._worker_nats = NatsAddress.parse(found.group(1))
        self._screen.right("/sandbox connect shows her its own logins to PostgreSQL, Valkey and NATS")

    async def _register(self) -> None:
        target = self._place.test_guild
        self._screen.step("…and registers the server she tests in")
        # The bot asks first when production has recent events of the server; this is one.
        self._sim.message(target, author=self._place.developer, content="Does the login work here?")
        await self._until_stored()
        choices = await self._sim.autocomplete(
            self._place.developer,
            self._place.dev_guild.default_channel,
            "sandbox register-guild",
            focused="guild",
            value="login",
        )
        if str(target.id) not in [value for _, value in choices]:
            raise StepFailed(f"Typing “login” into the option guild did not offer {target.name}.")
        self._screen.note(f"Typing “login” into the option guild offers: {', '.join(n for n, _ in choices)}")
        question = await self._slash(
            "register-guild",
            "Take this server away from production",
            shown={"guild": target.name},
            name=_NAME,
            guild=str(target.id),
        )
        await self._yes(question, "Server registered")
        self._registered = range(len(self._sim.sent), 2**63)

    async def _run_bot(self, command: str, bot: GuardedProcess) -> None:
        self._screen.step("…and runs her bot there, with not a line changed")
        self._screen.shell(command)
        self._screen.note("an ordinary bot on discord.py, with a new greeting; production has the old one")
        await self._shell.has_said("mybot", "ready", bot)
        async with greetings.production(self._js, self._place):
            found = await greetings.answers(self._place)
        self._screen.greetings(self._place.guilds, found)
        new = {guild_id for guild_id, texts in found.items() if "new login" in "".join(texts)}
        if new != {self._place.test_guild.id} or any(len(texts) != 1 for texts in found.values()):
            raise StepFailed("Not each server was answered once, and by the right bot.")
        self._screen.right("one answer in each server: her bot's in hers, production's in the others")

    async def _live_events(self) -> None:
        self._screen.step(f"{_EVENTS:,} live events of {len(self._place.guilds)} servers")
        await self._flood(_EVENTS)

    async def _look(self) -> None:
        self._screen.step("How is it doing?")
        await self._slash("status", "Sandbox", name=_NAME)
        await self._slash("list", "1 sandbox")

    async def _destroy(self) -> None:
        self._screen.step("Done with it")
        question = await self._slash("destroy", f"Destroy the sandbox {_NAME}?", name=_NAME)
        await self._yes(question, "is destroyed")
        self._registered = range(self._registered.start, len(self._sim.sent))
        self._destroyed = True

    async def _nothing_left(self) -> None:
        sandbox_id, tenants, redis = self._sandbox_id, self._stores.tenants, self._stores.redis
        left = {
            "schemas": await tenants.fetchval(
                "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'sandbox\\_%'"
            ),
            "roles": await tenants.fetchval("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'sandbox\\_%'"),
            "keys": len([key async for key in redis.scan_iter(f"{redis_prefix(sandbox_id)}*")]),
            "users": sum(sandbox_id in str(user) for user in await redis.acl_users()),
            "server registrations": await self._stores.postgres.fetchval(
                "SELECT count(*) FROM sandbox_guild_mapping"
            ),
            "NATS logins": int(await self._is_let_in()),
        }
        if any(left.values()):
            raise StepFailed(f"The sandbox left something behind: {left}.")
        self._screen.right("no schema, no key, no registration of it is left, and its logins are refused")
        entries = await self._stores.postgres.fetchval(
            "SELECT count(*) FROM sandbox_audit_log WHERE sandbox_id::text = $1", sandbox_id
        )
        if not entries:
            raise StepFailed("The audit log has forgotten the sandbox.")
        self._screen.right(f"the audit log keeps the {entries} entries of its life")

    async def _is_let_in(self) -> bool:
        try:
            async with self._worker():
                return True
        except (nats.errors.Error, OSError, TimeoutError):
            return False

    async def _production_again(self) -> None:
        self._screen.step("Its server's events go to production again")
        await self._flood(_EVENTS_AFTERWARDS)

    # How a step is done

    async def _slash(
        self, command: str, title: str, *, shown: dict[str, str] | None = None, **options: Any
    ) -> InteractionResult:
        """Use `/sandbox {command}` as the developer; the answer must have the title `title`."""
        developer, channel = self._place.developer, self._place.dev_guild.default_channel
        self._screen.command(developer, channel, f"sandbox {command}", {**options, **(shown or {})})
        started = time.monotonic()
        result = await self._sim.slash(developer, channel, f"sandbox {command}", timeout=12, **options)
        self._answered(result, time.monotonic() - started, title)
        return result

    async def _yes(self, question: InteractionResult, title: str) -> None:
        """Press the first button as the developer; the new answer must have the title `title`."""
        asked = _title(question)
        label = str(question.buttons[0]["label"]) if question.buttons else ""
        self._screen.click(self._place.developer, label)
        started = time.monotonic()
        result = await self._sim.click(question, self._place.developer, label=label)
        await result.wait_until(lambda r: _title(r) != asked and not _title(r).endswith("…"), timeout=30)
        self._answered(result, time.monotonic() - started, title)

    def _answered(self, result: InteractionResult, seconds: float, title: str) -> None:
        self._screen.answer(result, seconds, self._sim.bot_user.name, self._sim.world.users)
        if title not in _title(result):
            raise StepFailed(f"The bot was expected to answer “{title}”; it answered “{_title(result)}”.")
        if not result.ephemeral:
            raise StepFailed("Everybody in the channel can see the bot's answer.")

    async def _flood(self, count: int) -> None:
        """Send events, wait until they are stored, read both streams back and show what is there."""
        first = len(self._sim.sent)
        await self._sim.flood(count)
        flood = self._sim.sent[first:]
        await self._until_stored()
        stored = await read_stream(self._js, DEFAULT_NAMES.events, DEFAULT_NAMES.production_events)
        if not self._destroyed:
            async with self._worker() as js:
                stored += await read_stream(js, SLOT_STREAM, sandbox_events(self._sandbox_id))
        in_table = {message_id(frame): frame.guild_id for frame in flood}
        self._traffic(in_table, stored)
        others = Counter(e.headers["Discord-Event"] for e in stored if e.message_id not in in_table)
        size = sum(len(event.payload) for event in stored)
        self._screen.comparison(compare(self._expected(), stored), size, others)

    async def _until_stored(self) -> None:
        """Wait until the streams have the expected number of events, or some seconds."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _STORED_WITHIN
        streams = [(self._js, DEFAULT_NAMES.events)]
        async with AsyncExitStack() as stack:
            if not self._destroyed:
                streams.append((await stack.enter_async_context(self._worker()), SLOT_STREAM))
            while await _stored(streams) < sum(1 for event in self._expected() if event.sides):
                if loop.time() > deadline:
                    # The comparison names the missing events.
                    return
                await asyncio.sleep(0.02)

    @asynccontextmanager
    async def _worker(self) -> AsyncIterator[JetStreamContext]:
        """Connect to the sandbox's NATS account as a worker does. Raises a `nats.errors.Error` if refused."""
        if self._worker_nats is None:
            raise StepFailed("There is no login to NATS yet.")
        arguments = self._worker_nats.arguments() | {"allow_reconnect": False, "error_cb": _ignore}
        client = await nats.connect(**arguments)
        try:
            yield client.jetstream()
        finally:
            await client.close()

    def _expected(self) -> Iterator[Expected]:
        """Yield every frame sent so far, with the sides where it must be stored."""
        for index, frame in enumerate(self._sim.sent):
            side: frozenset[str | None] = frozenset({None})
            if frame.type == "INTERACTION_CREATE":
                # All of them are /sandbox commands: handled, not published.
                side = frozenset()
            elif frame.guild_id == self._place.test_guild.id and index in self._registered:
                # The sandbox's events were deleted with it.
                side = frozenset() if self._destroyed else frozenset({self._sandbox_id})
            yield Expected(frame, side)

    def _traffic(self, guild_of: Mapping[str, int | None], stored: Sequence[StoredEvent]) -> None:
        """Show, per guild, the events of `guild_of` (message id to guild) and where they are stored."""
        sent = Counter(guild_id for guild_id in guild_of.values() if guild_id is not None)
        found: dict[str, Counter[int]] = {stream: Counter() for stream in (DEFAULT_NAMES.events, SLOT_STREAM)}
        for event in stored:
            guild_id = guild_of.get(event.message_id)
            if guild_id is not None:
                found[event.stream][guild_id] += 1
        self._screen.traffic(
            self._place.guilds,
            sent,
            found[DEFAULT_NAMES.events],
            found[SLOT_STREAM],
            sandbox_events(self._sandbox_id).replace(self._sandbox_id[8:], "…"),
        )


async def _stored(streams: Sequence[tuple[JetStreamContext, str]]) -> int:
    return sum([(await js.stream_info(stream)).state.messages for js, stream in streams])


async def _ignore(_error: Exception) -> None:
    """Nats-py would log it: a refusal is raised, too."""


def _title(result: InteractionResult) -> str:
    return str(result.embeds[0].get("title", "")) if result.embeds else result.content
