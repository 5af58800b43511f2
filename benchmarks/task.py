"""What a contender is told, and what it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Task:
    """What one contender is to do."""

    api_url: str
    gateway_url: str
    token: str
    dev_guild: str
    database_url: str
    redis_url: str
    nats_url: str
    warm_up: int
    """Events before the measured ones."""
    events: int
    mapped: dict[str, str]
    """Guild to sandbox, for what publishes without asking."""
    profile: bool = False
    payload_bytes: int = 1300
    ops_port: int = 0
    """Where the bot's ops endpoint listens; 0 is any free port."""

    def to_json(self) -> str:
        """For a command line."""
        return json.dumps(asdict(self))


Counter = Callable[[], int]
"""How many events of the flood are done."""
Contender = Callable[[Task], AbstractAsyncContextManager[Counter]]


def identify(token: str) -> dict[str, Any]:
    """An IDENTIFY for messages and guilds."""
    return {"op": 2, "d": {"token": token, "intents": 513, "properties": {}, "shard": [0, 1]}}
