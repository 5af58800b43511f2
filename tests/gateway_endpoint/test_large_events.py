"""Events that NATS takes only compressed, or that are larger than all that may wait for a client."""

from __future__ import annotations

from .raw import connected
from .stage import Process, Stage

MEGABYTE = 1_000_000


async def test_an_event_that_was_stored_compressed_comes_as_it_was(stage: Stage, process: Process) -> None:
    guild = stage.guilds[0]
    mine = await stage.sandbox("mine", guild)
    async with connected(process) as raw:
        await raw.identify(stage.token(mine))
        for count in (2, 4):
            # Larger than the server takes, and than what may wait for a client; one fits the budget.
            contents = ["before", "large" * count * MEGABYTE, f"after {count}"]
            for content in contents:
                stage.sim.message(guild, content=content)
            seen = await raw.until_content(contents[-1])
            assert [len(each["d"]["content"]) for each in seen] == [len(content) for content in contents]
            assert seen[1]["d"]["content"] == contents[1]
            first = seen[0]["s"]
            assert [each["s"] for each in seen] == [first, first + 1, first + 2]
