"""A nats-server whose configuration changes while it runs."""

from __future__ import annotations

import json
import os
import signal

from sandbox_bot.embedded import NatsServer


def reload(server: NatsServer, **settings: object) -> dict[str, object]:
    """Change settings and have the server read them; returns the configuration before."""
    file = server.data_dir / "nats.conf"
    before: dict[str, object] = json.loads(file.read_text())
    file.write_text(json.dumps(before | settings))
    os.kill(server.pid, signal.SIGHUP)
    return before
