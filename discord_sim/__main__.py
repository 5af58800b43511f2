"""`python -m discord_sim`: runs the simulator as its own process."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Sequence

from discord_sim.control import ControlApi, ready_info
from discord_sim.sim import DiscordSim


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m discord_sim",
        description="A local Discord (REST and gateway) on the loopback interface.",
    )
    parser.add_argument("--port", type=int, default=0, help="0 chooses a free port (default)")
    parser.add_argument("--token", default="sim-token", help="the bot token that is accepted")
    parser.add_argument("--guilds", type=int, default=1, metavar="N", help="number of guilds")
    parser.add_argument(
        "--users",
        nargs="*",
        default=["alice"],
        metavar="NAME",
        help="number of users; they are members of every guild, and the first owns the guilds",
    )
    parser.add_argument("--shards", type=int, default=1, help="recommended shard count")
    parser.add_argument("--max-concurrency", type=int, default=1, help="IDENTIFY buckets")
    parser.add_argument("--replay-limit", type=int, default=5000, help="frames kept for RESUME")
    parser.add_argument(
        "--session-ttl",
        type=float,
        default=180.0,
        metavar="SECONDS",
        help="seconds in which a lost session can be resumed",
    )
    parser.add_argument("--heartbeat-ms", type=int, default=41_250, help="heartbeat interval")
    parser.add_argument(
        "--print-ready-json",
        action="store_true",
        help="print one line of JSON with addresses and ids when it listens",
    )
    return parser.parse_args(arguments)


async def serve(options: argparse.Namespace) -> None:
    """Run the simulator until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for stopper in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(stopper, stop.set)
    sim = DiscordSim(
        options.token,
        port=options.port,
        shards=options.shards,
        max_concurrency=options.max_concurrency,
        replay_limit=options.replay_limit,
        session_ttl=options.session_ttl,
        heartbeat_interval_ms=options.heartbeat_ms,
    )
    users = [sim.add_user(name) for name in options.users]
    for number in range(options.guilds):
        guild = sim.add_guild(f"guild-{number}", owner=users[0] if users else None)
        for user in users[1:]:
            guild.add_member(user)
    sim.control = ControlApi(sim).serve
    async with sim:
        if options.print_ready_json:
            say(json.dumps(ready_info(sim)))
        else:
            say(f"REST {sim.api_url}\ngateway {sim.gateway_url}")
        await stop.wait()


def say(line: str) -> None:
    """Print a line at once, also into a pipe."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    """Run the command; return the exit code."""
    try:
        asyncio.run(serve(parse()))
    except OSError as error:
        sys.stderr.write(f"cannot listen: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
