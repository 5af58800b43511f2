"""`sandboxctl status`: what is stored, apart from who is behind."""

from __future__ import annotations

import nats
from nats.js.api import ConsumerConfig

from sandbox_bot.embedded import EmbeddedServers
from tests.streams import stream_of

from .conftest import ALICE, NOBODY_LISTENS, Shell
from .schemas import check


async def test_each_consumer_has_a_line_and_what_is_stored_stays(
    shell: Shell, servers: EmbeddedServers
) -> None:
    await shell.ok("create", "behind", "--owner", ALICE)
    sandbox_id = (await shell.ok("connect", "behind", "--json")).json["SANDBOX_ID"]
    client = await nats.connect(servers.nats_url)
    js, stream = client.jetstream(), stream_of(sandbox_id)
    await js.add_consumer(stream, ConsumerConfig(durable_name=f"{sandbox_id}-worker"))
    for number in range(6):
        await js.add_consumer(
            stream, ConsumerConfig(durable_name=f"idle{number}", filter_subject="sandbox.x")
        )
    subject = f"sandbox.{sandbox_id}.events.MESSAGE_CREATE"
    for _ in range(2):
        await js.publish(subject, b"{}")
    reading = await js.pull_subscribe_bind(consumer=f"{sandbox_id}-worker", stream=stream)
    (first, _) = await reading.fetch(2)
    await first.nak()
    # Nothing else is there to come.
    await reading.fetch(1, timeout=20)
    for _ in range(2):
        await js.publish(subject, b"{}")
    status = (await shell.ok("status", "behind", "--json")).json
    check("status", status)
    backlog = status["backlog"]
    assert (backlog["stored"], backlog["dead_letters"], backlog["unread"]) == (4, 0, {})
    assert backlog["consumers"][0] == {
        "name": "worker",
        "durable": True,
        "lag": 2,
        "unacknowledged": 2,
        "redelivered": 1,
    }
    assert len(backlog["consumers"]) == 7
    lines = [" ".join(line.split()) for line in (await shell.ok("status", "behind")).out.splitlines()]
    assert "Consumer worker 2 behind, 2 not acknowledged, 1 of them redelivered" in lines
    assert "Consumer idle0 up to date" in lines
    assert "Consumers and 2 more, up to date" in lines
    assert "Dead letters 0" in lines
    assert any("4 events stored" in line for line in lines)
    await client.close()

    away = await shell.having(NATS_URL=f"nats://{NOBODY_LISTENS}")("status", "behind", "--json")
    unknown = away.json["backlog"]
    check("status", away.json)
    assert (unknown["consumers"], unknown["stored"], unknown["dead_letters"]) == (None, None, None)
    assert unknown["unread"]["consumers"].startswith("NATS is unavailable (")
    assert NOBODY_LISTENS in unknown["unread"]["consumers"]
    shown = (await shell.having(NATS_URL=f"nats://{NOBODY_LISTENS}")("status", "behind")).out
    assert "not known: NATS is unavailable (" in shown
    await shell.ok("destroy", "behind", "--yes")
