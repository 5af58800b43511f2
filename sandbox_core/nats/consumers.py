"""How far the consumers of a stream are behind. Whoever asks takes nothing from them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from sandbox_core.errors import DependencyUnavailable
from sandbox_core.words import storable

from .errors import DEPENDENCY, translating
from .stream_faults import MADE_BY, MARK

_MOST = 512
"""A page of the server's has 256."""

OURS: Mapping[str, str] = {MADE_BY: MARK}
"""The metadata of the bot's own consumers, which are nobody's backlog."""


@dataclass(frozen=True, slots=True)
class Consumer:
    """One consumer of somebody's."""

    name: str
    durable: bool
    """Whether it stays when nobody uses it."""
    lag: int
    """Events that it has still to be sent."""
    unacknowledged: int
    """Events that were sent, and not confirmed yet."""
    redelivered: int
    """How many of these were sent more than once."""


@dataclass(frozen=True, slots=True)
class Consumers:
    """The consumers of a stream, those that are the most behind first."""

    known: tuple[Consumer, ...]
    unknown: tuple[str, ...] = ()
    """The names of those that no server can tell about now."""
    unread: int = 0
    """How many more there are than are read."""


async def consumers_of(js: JetStreamContext, stream: str) -> Consumers:
    """Return the stream's consumers but for the bot's own. Raises `DependencyUnavailable`."""
    known: list[Consumer] = []
    unknown: set[str] = set()
    asked = total = 0
    with translating():
        while asked < _MOST:
            try:
                # nats-py's own method leaves out what is missing, and how many there are.
                answer = await js._api_request(
                    f"{js._prefix}.CONSUMER.LIST.{stream}",
                    json.dumps({"offset": asked}).encode(),
                    timeout=js._timeout,
                )
            except NotFoundError:
                raise DependencyUnavailable(DEPENDENCY, f"the stream {stream} is missing") from None
            page: list[dict[str, Any]] = answer.get("consumers") or []
            missing: list[str] = [*(answer.get("missing") or ()), *(answer.get("offline") or {})]
            known += [_consumer(each) for each in page if not _is_ours(each)]
            unknown.update(missing)
            total = int(answer.get("total", 0))
            asked += len(page) + len(missing)
            if not (page or missing) or asked >= total:
                break
    known.sort(key=lambda each: (-each.lag, -each.redelivered, -each.unacknowledged, each.name))
    return Consumers(tuple(known), tuple(sorted(unknown)), max(0, total - asked))


def _consumer(info: Mapping[str, Any]) -> Consumer:
    return Consumer(
        storable(str(info["name"])),
        bool(info.get("config", {}).get("durable_name")),
        int(info.get("num_pending") or 0),
        int(info.get("num_ack_pending") or 0),
        int(info.get("num_redelivered") or 0),
    )


def _is_ours(info: Mapping[str, Any]) -> bool:
    return (info.get("config", {}).get("metadata") or {}).get(MADE_BY) == MARK
