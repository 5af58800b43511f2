"""The configuration of the sandboxes' NATS server.

Every slot has an account with limits of its own. No subject of one account is seen in another, but for what
it exports to the bot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from sandbox_core.setting_limits import NatsLimitSettings
from sandbox_core.subjects import SLOTS_AT_MOST, slot_account, slot_exports

from .keys import AUTH, BOT, ROUTE, SYSTEM, TenantKeys

_MIB = 1024 * 1024
LOGIN_WITHIN = 3
"""The limit in seconds for a login, with the bot's answer to the server."""
_ROUTER, _AUTH, _SYS = "ROUTER", "AUTH", "SYS"
# A client that does not read is cut off here, before many of them fill the server's memory.
_UNREAD_AT_MOST = 16 * _MIB
_WRITE_WITHIN = "2s"


@dataclass(frozen=True, slots=True)
class TenantLimits:
    """How many sandboxes the server has room for, and what each may use."""

    slots: int = 100
    memory: int = 32 * _MIB
    """The memory of one sandbox's streams and consumers, in bytes on each server."""
    replicas: int = 1
    """On how many servers of a cluster a sandbox's streams are."""
    connections: int = 10
    subscriptions: int = 200
    consumers: int = 50
    unacknowledged: int = 1000
    """How many events one consumer may have without an acknowledgement: their list is in no other limit."""
    streams: int = 2
    max_payload: int = 8 * _MIB
    messages: int = 500_000
    """How many events one stream may have. It is in the streams' own configuration."""

    def __post_init__(self) -> None:
        if not 1 <= self.slots <= SLOTS_AT_MOST:
            raise ValueError(f"the number of slots is 1 to {SLOTS_AT_MOST}")
        if self.memory < 2 * self.max_payload:
            raise ValueError("a sandbox's memory is at least twice the largest message")

    @classmethod
    def of(cls, settings: NatsLimitSettings, **others: int) -> TenantLimits:
        """Those of these settings, with others that are none."""
        chosen = {
            "memory": settings.sandbox_stream_mb * _MIB,
            "connections": settings.sandbox_nats_connections,
            "consumers": settings.sandbox_stream_consumers,
            "messages": settings.sandbox_stream_messages,
        }
        return cls(**(chosen | others))

    @property
    def account_memory(self) -> int:
        """The limit of one account: a stream counts once for each of its replicas."""
        return self.memory * self.replicas


DEFAULT_LIMITS = TenantLimits()


@dataclass(frozen=True, slots=True)
class ServerPlace:
    """What is different for each server of a cluster.

    `routes` are the hosts of all of them with their cluster ports; `monitor` is the address of the pages
    about the server, which ask nobody for a login.
    """

    name: str
    host: str
    port: int
    store: PurePath
    cluster: str = ""
    cluster_host: str = "127.0.0.1"
    cluster_port: int = 0
    routes: Sequence[str] = ()
    monitor: str = ""


def tenant_configuration(keys: TenantKeys, limits: TenantLimits, place: ServerPlace) -> dict[str, Any]:
    """The server's configuration, to be written as JSON; it has passwords."""
    return {
        "server_name": place.name,
        "host": place.host,
        "port": place.port,
        "max_payload": limits.max_payload,
        "max_pending": max(_UNREAD_AT_MOST, 2 * limits.max_payload),
        "write_deadline": _WRITE_WITHIN,
        "jetstream": {
            "store_dir": str(place.store),
            # The limits of accounts count like reservations: their sum must fit.
            "max_memory_store": limits.slots * limits.account_memory + _MIB,
        },
        **({"http": place.monitor} if place.monitor else {}),
        **({"cluster": _cluster(keys, place)} if place.cluster else {}),
        "accounts": _accounts(keys, limits),
        "system_account": _SYS,
        "authorization": {
            "timeout": LOGIN_WITHIN,
            "auth_callout": {
                "issuer": keys.issuer_public,
                "account": _AUTH,
                "auth_users": [AUTH, BOT, SYSTEM],
            },
        },
    }


def _cluster(keys: TenantKeys, place: ServerPlace) -> dict[str, Any]:
    # Whoever joins a cluster as a server sees every account.
    password = keys.password(ROUTE)
    return {
        "name": place.cluster,
        "host": place.cluster_host,
        "port": place.cluster_port,
        "authorization": {"user": ROUTE, "password": password, "timeout": LOGIN_WITHIN},
        "routes": [f"nats://{ROUTE}:{password}@{each}" for each in place.routes],
    }


def _accounts(keys: TenantKeys, limits: TenantLimits) -> dict[str, Any]:
    slots = range(limits.slots)
    return {
        _ROUTER: {
            "jetstream": "enabled",
            **_user(keys, BOT),
            "imports": [each for slot in slots for each in _imports(slot)],
        },
        _AUTH: _user(keys, AUTH),
        _SYS: _user(keys, SYSTEM),
        **{slot_account(slot): _slot(slot, limits) for slot in slots},
    }


def _user(keys: TenantKeys, name: str) -> Mapping[str, Any]:
    return {"users": [{"user": name, "password": keys.password(name)}]}


def _imports(slot: int) -> list[Mapping[str, Any]]:
    account = slot_account(slot)
    return [
        {"service": {"account": account, "subject": subject}, "to": seen}
        for subject, seen in slot_exports(slot)
    ]


def _slot(slot: int, limits: TenantLimits) -> Mapping[str, Any]:
    (events, _), (api, _) = slot_exports(slot)
    return {
        "jetstream": {
            "max_mem": limits.account_memory,
            "max_file": 0,
            "max_streams": limits.streams,
            "max_consumers": limits.consumers,
            "max_ack_pending": limits.unacknowledged,
        },
        "limits": {"max_connections": limits.connections, "max_subscriptions": limits.subscriptions},
        "exports": [
            {"service": events, "accounts": [_ROUTER]},
            {"service": api, "response": "stream", "accounts": [_ROUTER]},
        ],
    }
