"""A worker whose server ends its connection in a way which nats-py takes for the end of everything."""

from __future__ import annotations

from contextlib import aclosing

import nats
import pytest
from nats.js import JetStreamContext
from structlog.testing import capture_logs

from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.context import SandboxContext
from sandbox_core.models import Sandbox
from tests.e2e.harness import eventually
from tests.embedded.reloading import reload

from .test_context import emit


@pytest.mark.usefixtures("reloaded")
async def test_the_events_go_on_after_the_server_ended_every_connection(
    context: SandboxContext, servers: EmbeddedServers, nats_url: str, js: JetStreamContext, sandbox: Sandbox
) -> None:
    await emit(js, sandbox, "MESSAGE_CREATE", "before")
    texts: list[str] = []
    with capture_logs() as logs:
        async with aclosing(context.events(batch=1)) as events:
            async for event in events:
                texts.append(event.data["content"])
                if texts == ["before"]:
                    reload(servers.nats, max_connections=0)
                    await eventually(lambda: any(line["event"] == "nats_closed" for line in logs))
                    reload(servers.nats, max_connections=100)
                    await eventually(lambda: any(line["event"] == "nats_reconnected" for line in logs))
                    client = await nats.connect(nats_url)
                    await emit(client.jetstream(), sandbox, "MESSAGE_CREATE", "after")
                    await client.close()
                if texts[-1] == "after":
                    break
    # What was being handled is not lost and may come twice.
    assert list(dict.fromkeys(texts)) == ["before", "after"]
    await context.publish("jobs.x", b"{}")
