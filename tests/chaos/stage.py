"""Everything one scenario needs: real servers, the simulator, real bots, traffic, and the verdict."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import nats.errors

from discord_sim import DiscordSim, SimError, SimGuild
from sandbox_bot.embedded import EmbeddedServer, EmbeddedServers, NatsServer, embedded_servers
from sandbox_bot.migrate import migrate
from tests.event_path.proxy import Proxy, proxied

from . import clients
from .bots import Bot, Bots, ChaosError, Start, bots, start_host, start_program
from .cluster import nats_cluster
from .judge import Judge, Verdict, identity, is_published
from .kills import Kills
from .reader import StreamReader, read_to_the_end, reading, reading_sandboxes
from .sides import Sides
from .tap import Ack, NatsTap
from .tenants import Tenants, tenant_side
from .traffic import Commands, FloodTask, Oddities, Operator, describe

_SANDBOXES = 4
_SETTLE_WITHIN = 60.0
_OVERTIME = 150.0
_REPLAY_LIMIT = 1_000_000
_TOKEN = "chaos-token"


@dataclass(frozen=True)
class Scenario:
    """What goes wrong, and the world it goes wrong in.

    `rate` is events a second, `commands` commands a second; `lives` makes these whole lives of sandboxes.
    `least` is how many seconds the faults take at the shortest. With `fixed_shards` process n of `processes`
    runs shard n; without, the shards are claimed. With `proxied`, process 0's way to PostgreSQL
    can be cut. With `drops` sandboxes may lose events, exactly those that the bot counts; without, it must
    count none. With `plugin` there is somebody else's bot as well, which has the plugin. With
    `may_store_dropped` a server that hung stores what it was sent before, and was counted as dropped: of each
    guild one event at most. With `isolated` sandboxes have logins of their own, to servers of their own, of
    which PostgreSQL has `small_disk` megabytes; a run without the fault goes on beside.
    With `clients` each sandbox has a bot of its own at the gateway endpoint, which two processes serve.
    With `upgrades` there are such servers, and sandboxes begin without logins.
    """

    name: str
    faults: Callable[[Stage, float], Awaitable[None]]
    rate: float = 600
    commands: float = 2
    lives: bool = False
    guilds: int = 40
    shards: int = 1
    processes: int = 1
    fixed_shards: bool = True
    proxied: bool = False
    plugin: bool = False
    nats_nodes: int = 1
    heartbeat_ms: int = 41_250
    least: float = 0.0
    drops: bool = False
    may_store_dropped: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    isolated: bool = False
    clients: bool = False
    upgrades: bool = False
    small_disk: int = 0


@dataclass
class Stage:
    """What the faults of a scenario act on."""

    sim: DiscordSim
    servers: EmbeddedServers
    nats: list[NatsServer]
    taps: list[NatsTap]
    bots: Bots
    chance: random.Random
    scenario: Scenario
    readers: dict[str, StreamReader]
    identifies_allowed: int = 0
    places: dict[int, Bot] = field(default_factory=dict)
    """The process that stands at each number."""
    host: Bot | None = None
    """Somebody else's bot with the plugin, when the scenario has one."""
    kills: Kills = field(default_factory=Kills)
    backs: list[float] = field(default_factory=list)
    """Seconds from the moment that a server answered again until work went on."""
    way: Proxy | None = None
    """Process 0's way to PostgreSQL, when the scenario may cut it."""
    database_url_there: str = ""
    tenants: Tenants | None = None
    """The sandboxes' side, when they have logins of their own."""
    endpoints: clients.Endpoints | None = None
    """Where the bots of sandboxes are connected, when the scenario has some."""
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    operator: Operator | None = None
    guilds: Sequence[SimGuild] = ()
    """All but the dev guild; the last quarter takes no part in the commands, and begins as production's."""

    def process_environment(self, number: int) -> dict[str, str]:
        """What process `number` gets besides the settings of all."""
        scenario = self.scenario
        way = {"DATABASE_URL": self.database_url_there} if self.way is not None and number == 0 else {}
        if not scenario.fixed_shards:
            return way
        mine = [s for s in range(scenario.shards) if s % scenario.processes == number]
        return {
            **way,
            "DISCORD_SHARD_COUNT": str(scenario.shards),
            "DISCORD_SHARD_IDS": ",".join(map(str, mine)),
        }

    async def dropped(self) -> int:
        """How many events of sandboxes the bots say that they have dropped."""
        counts = [await bot.counted("sandbox_events_dropped_total") for bot in self.bots.running]
        return sum(counts)

    async def outage(self, server: EmbeddedServer, seconds: float) -> None:
        """Kill a server and start it again after a while."""
        await server.kill()
        await asyncio.sleep(seconds)
        await server.start()

    async def start(self, number: int) -> None:
        """Start process `number` unless it runs, and wait until it is ready."""
        bot = self.places.get(number)
        if bot is None or not bot.running:
            bot = self.places[number] = await self.bots.launch(self.process_environment(number))
        await bot.wait_ready()

    async def start_host(self) -> Bot:
        """Start the bot with the plugin, and wait until it is ready."""
        self.one_more_identify()
        extensions = "sandbox_cogs.gateway,sandbox_cogs.sandbox"
        self.host = await self.bots.launch({"HOST_EXTENSIONS": extensions}, start_host)
        await self.host.wait_ready()
        return self.host

    async def restart(self, number: int) -> None:
        """Kill process `number` and start another in its place."""
        await self.bots.kill(self.places[number])
        await self.start(number)

    def one_more_identify(self) -> None:
        """Discord is about to end a session: one IDENTIFY per shard is in order."""
        self.identifies_allowed += self.scenario.shards


async def play(
    scenario: Scenario, seed: int, seconds: float, logs: Path, start: Start = start_program
) -> Verdict:
    """Run one scenario; whatever goes wrong is in the verdict. `seconds` is how long the faults go on."""
    verdict = Verdict()
    started = time.monotonic()
    length = max(seconds, scenario.least)
    try:
        async with asyncio.timeout(length + _OVERTIME):
            async with AsyncExitStack() as stack:
                stage = await _stage(stack, scenario, seed, logs, start)
                await _play(stage, length, verdict)
    except (ChaosError, SimError, TimeoutError, nats.errors.Error, OSError) as error:
        verdict.problems.append(f"{type(error).__name__}: {error}" if str(error) else "the time limit struck")
    verdict.seconds = time.monotonic() - started
    return verdict


async def _stage(stack: AsyncExitStack, scenario: Scenario, seed: int, logs: Path, start: Start) -> Stage:
    memory = Path("/dev/shm")  # noqa: S108 (a private directory is made in it)
    directory = Path(
        stack.enter_context(
            tempfile.TemporaryDirectory(prefix="chaos-", dir=memory if memory.is_dir() else None)
        )
    )
    servers = await stack.enter_async_context(embedded_servers(directory / "servers", fast=True))
    await migrate(servers.database_url)
    nodes: list[NatsServer] = [servers.nats]
    if scenario.nats_nodes > 1:
        nodes = [*await stack.enter_async_context(nats_cluster(directory / "cluster"))]
    taps = [NatsTap(node) for node in nodes]
    for tap in taps:
        await stack.enter_async_context(tap.listening())
    sim = DiscordSim(
        _TOKEN,
        record=True,
        shards=scenario.shards,
        max_concurrency=16,
        replay_limit=_REPLAY_LIMIT,
        heartbeat_interval_ms=scenario.heartbeat_ms,
    )
    alice = sim.add_user("alice")
    for number in range(scenario.guilds + 1):
        sim.add_guild("dev" if number == 0 else f"guild-{number}", owner=alice)
    await stack.enter_async_context(sim)
    tenants, enforced = None, {"SANDBOX_ISOLATION": "convention"}
    if scenario.upgrades:
        tenants = await tenant_side(stack, servers, directory, 0)
    elif scenario.isolated:
        tenants = await tenant_side(stack, servers, directory, scenario.small_disk)
        enforced = tenants.environment
    environment = {
        "DATABASE_URL": servers.database_url,
        "REDIS_URL": servers.redis_url,
        "NATS_URL": ",".join(tap.url for tap in taps),
        "NATS_REPLICAS": str(len(nodes)),
        "DISCORD_TOKEN": _TOKEN,
        "DISCORD_API_URL": sim.api_url,
        "DISCORD_DEV_GUILD_IDS": str(min(sim.world.guilds)),
        "SANDBOX_MAX_PER_OWNER": "100000",
        "HOST_GATEWAY": sim.gateway_url,
        "OPS_PORT": "0",
        "LOG_FORMAT": "json",
        **enforced,
        **scenario.environment,
    }
    logs.mkdir(parents=True, exist_ok=True)
    running = await stack.enter_async_context(bots(environment, logs, start))
    sources = [node.url for node in nodes]
    readers = await stack.enter_async_context(reading(sources, {"EVENTS": "EVENTS"}))
    if not scenario.isolated:
        await stack.enter_async_context(reading_sandboxes(sources, readers))
    way, database_url_there = None, ""
    if scenario.proxied:
        way, database_url_there = await stack.enter_async_context(proxied(servers.database_url))
    return Stage(
        sim=sim,
        servers=servers,
        nats=nodes,
        taps=taps if tenants is None else [*taps, tenants.tap],
        bots=running,
        chance=random.Random(f"{seed}:{scenario.name}"),
        scenario=scenario,
        readers=readers,
        identifies_allowed=scenario.shards,
        way=way,
        database_url_there=database_url_there,
        tenants=tenants,
        stack=stack,
    )


async def _play(stage: Stage, seconds: float, verdict: Verdict) -> None:
    scenario, sim = stage.scenario, stage.sim
    for number in range(scenario.processes):
        await stage.start(number)
    await sim.wait_connected(scenario.shards, timeout=30)
    if scenario.plugin:
        await stage.start_host()
    dev, *guilds = sorted(sim.world.guilds.values(), key=lambda guild: guild.id)
    sides = Sides()
    operator = Operator(sim, dev, sim.world.guilds[dev.id].owner, sides)
    # Half of the guilds are mapped from the start, and a quarter takes part in the commands.
    names = [await operator.create() for _ in range(_SANDBOXES)]
    stage.operator, stage.guilds = operator, guilds
    if stage.tenants is not None and scenario.isolated:
        stage.readers |= await stage.tenants.follow(
            stage.stack, {name: await operator.connect(name) for name in names}
        )
    for number, guild in enumerate(guilds[: len(guilds) // 2]):
        await operator.register(guild, names[number % len(names)])
    await clients.connect(stage)
    async with _traffic(stage, operator, guilds, names) as traffic:
        await scenario.faults(stage, seconds)
    verdict.gaps += traffic.flood.unheard
    verdict.kills, verdict.backs = stage.kills, stage.backs
    try:
        await _settled(stage)
    except ChaosError as error:
        verdict.problems.append(str(error))
    dropped = await stage.dropped()
    await clients.catch_up(stage, verdict)
    if stage.host is not None:
        # discord.py ends its session when it is stopped.
        await stage.host.end(signal.SIGKILL)
    for bot in stage.bots.running:
        await stage.bots.stop(bot)
    for reader in list(stage.readers.values()):
        await read_to_the_end(reader)
    if any(session.last_client_close in (1000, 1001) for session in sim.sessions):
        verdict.problems.append("a session was closed with 1000 or 1001")
    if sim.unknown_requests:
        verdict.problems.append(f"unknown requests: {sim.unknown_requests[:3]}")
    judge = Judge(
        sides,
        _guilds_of(sim),
        traffic.oddities.channel_of,
        _acks(stage),
        stage.bots.kills,
        {key: at for each in stage.readers.values() for key, at in each.ended.items()},
    )
    judge.snapshots = not scenario.plugin
    judge.drops = scenario.drops
    messages = (message for reader in stage.readers.values() for message in reader.messages)
    judge.judge(sim.sent, messages, verdict)
    clients.judge(stage, sides, verdict)
    if stage.readers["EVENTS"].missed:
        verdict.problems.append(f"{stage.readers['EVENTS'].missed} messages of EVENTS were not read")
    stored_all_the_same = scenario.guilds if scenario.may_store_dropped else 0
    exact = 0 <= dropped - verdict.dropped <= stored_all_the_same
    if not exact or scenario.drops != bool(dropped):
        verdict.problems.append(f"{verdict.dropped} events of sandboxes are missing, {dropped} were counted")
    verdict.identifies = len(sim.identifies)
    verdict.identifies_allowed = stage.identifies_allowed
    verdict.resumes = len(sim.resumes)
    verdict.commands = describe(operator.outcomes)


@dataclass
class _Traffic:
    flood: FloodTask
    oddities: Oddities
    commands: Commands


@asynccontextmanager
async def _traffic(
    stage: Stage, operator: Operator, guilds: list[SimGuild], names: list[str]
) -> AsyncIterator[_Traffic]:
    scenario = stage.scenario
    quarter = len(guilds) // 4
    changing = guilds[quarter : 3 * quarter]
    traffic = _Traffic(
        FloodTask(stage.sim, guilds, scenario.rate),
        Oddities(stage.sim, guilds, stage.chance, rate=20, well_formed=scenario.plugin),
        Commands(operator, changing, stage.chance, scenario.commands, lives=scenario.lives),
    )
    for number, guild in enumerate(guilds[quarter : 2 * quarter], quarter):
        traffic.commands.adopt(guild, names[number % len(names)])
    try:
        yield traffic
    finally:
        await traffic.commands.stop()
        await traffic.oddities.stop()
        await traffic.flood.stop()


def _guilds_of(sim: DiscordSim) -> dict[int, int]:
    """Whose the guild-less events of guild channels are, by payload identity: ephemeral messages are such."""
    found: dict[int, int] = {}
    for frame in sim.sent:
        if frame.guild_id is None and frame.type.startswith("MESSAGE_"):
            channel = sim.world.channels.get(int(json.loads(frame.raw)["d"]["channel_id"]))
            if channel is not None and channel.guild is not None:
                found[id(frame.payload)] = channel.guild.id
    return found


async def _settled(stage: Stage) -> None:
    """Return when everything sent is stored, acknowledged, or can't come any more."""
    deadline = time.monotonic() + _SETTLE_WITHIN
    missing = [frame for frame in stage.sim.sent if is_published(frame)]
    if stage.scenario.plugin:
        missing = [frame for frame in missing if frame.type != "GUILD_CREATE"]
    event_of = {identity(frame): (id(frame.payload), frame.middle) for frame in missing}
    while True:
        known = {m.identity for reader in stage.readers.values() for m in reader.messages}
        for tap in stage.taps:
            known.update(tap.acks)
        # An event of two sessions is stored once, from one of them.
        there = {event_of[one] for one in known if one in event_of}
        missing = [
            frame
            for frame in missing
            if frame.session.alive and (id(frame.payload), frame.middle) not in there
        ]
        if not missing or (stage.scenario.drops and len(missing) <= await stage.dropped()):
            return
        if time.monotonic() > deadline:
            count = len(missing)
            raise ChaosError(f"{count} frames were not stored {_SETTLE_WITHIN:g} s after the last fault")
        await asyncio.sleep(0.5)


def _acks(stage: Stage) -> Mapping[str, list[Ack]]:
    together: dict[str, list[Ack]] = defaultdict(list)
    for tap in stage.taps:
        for message_id, acks in tap.acks.items():
            together[message_id].extend(acks)
    return together


@contextlib.asynccontextmanager
async def jetstream(stage: Stage) -> AsyncIterator[nats.js.JetStreamContext]:
    """A connection of the harness's own, past the taps."""
    client = await nats.connect([node.url for node in stage.nats])
    try:
        yield client.jetstream()
    finally:
        await client.close()
