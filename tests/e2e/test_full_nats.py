"""The bot while the disk of NATS is full: it says so, and nothing is lost."""

from __future__ import annotations

import json
from pathlib import Path

from structlog.testing import capture_logs

from discord_sim import DiscordSim
from tests.doctor.servers import nats_server
from tests.e2e.conftest import StartLive
from tests.e2e.harness import eventually, get
from tests.small_disk import small_disk


async def test_a_full_disk_is_named_and_loses_nothing(
    sim: DiscordSim, start_live: StartLive, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", 24) as disk:
        async with nats_server(disk.directory) as server:
            where = f"127.0.0.1:{server.port}"
            live = await start_live(nats_url=server.url)
            await live.checked()
            disk.fill()

            async def missing() -> dict[str, str]:
                status, body = await get(live.run.url, "/readyz")
                found: dict[str, str] = json.loads(body).get("missing", {})
                assert (status == 503) == bool(found)
                return found

            with capture_logs() as logs:
                for number in range(20):
                    sim.message(live.guilds[0], content="x" * 1000 + str(number))

                async def named() -> bool:
                    return "NATS" in await missing()

                await eventually(named)
            reason = "the stream EVENTS stores no events: no answer within 5 s; its disk may be full"
            assert (await missing())["NATS"] == f"answers, but {reason} (at {where})"
            told = [entry for entry in logs if entry["event"] == "publish_unanswered"]
            assert [(entry["server"], entry["reason"]) for entry in told] == [(where, reason)]

            # Room alone is not enough: the stream takes nothing before the server is started again.
            disk.clear()
            await server.restart()

            async def ready() -> bool:
                return not await missing()

            await eventually(ready)
            await live.checked()
