"""Checks NATS: the login, the version, the permissions for subjects, and JetStream with enough room."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import Any

import nats.errors
from nats.js.api import AccountInfo, StorageType, StreamConfig
from nats.js.errors import APIError, ServiceUnavailableError

from sandbox_core.errors import DependencyUnavailable
from sandbox_core.nats.errors import translating

from .findings import Look
from .nats_permissions import denied
from .nats_streams import Server, look_at_streams
from .places import Place
from .versions import judge_version

_MINIMUM = (2, 11, 11)
"""The purge of a stream in memory fails in 2.11.0; this one was tried."""
_NOT_FOR_ACCOUNT = 10039  # JetStream's JSNotEnabledForAccountErr
_NO_LEADER = 10008  # JetStream's JSClusterNotAvailErr
_NO_ANSWER = (
    nats.errors.TimeoutError,
    nats.errors.NoRespondersError,
    ServiceUnavailableError,
    DependencyUnavailable,
)
_SILENT = ("JetStream does not answer", "Look at nats-server's log: a cluster may have no leader.")
_MEGABYTE = 1024 * 1024
# The largest gateway frames. A frame above the server's limit is compressed, or becomes a dead letter.
_PAYLOAD = 8 * _MEGABYTE
_LEAST_PAYLOAD = 64 * 1024
_LEAST_ROOM = 64 * _MEGABYTE


async def look_at_nats(server: Server, look: Look, place: Place, clock: Callable[[], datetime]) -> None:
    """Check everything that the bot does there, without changing anything."""
    if not server.nats.connected:
        raise server.nats.trouble
    about = _about(server)
    with translating():
        began = time.perf_counter()
        await server.nats.client.flush(3)
        look.ok(f"it answers, in {(time.perf_counter() - began) * 1000:.0f} ms")
        version = str(about.get("version", "0"))
        judge_version(look, version, _MINIMUM, "nats-server 2.11.11 or newer is needed.")
        if look.wrong:
            # A check that changes nothing on a newer server may change something on this one.
            return
        _payload(look, server.nats.client.max_payload)
        forbidden = await denied(server.nats, server.settings.stream_names, server.only)
        if forbidden.publish or forbidden.subscribe:
            making = dict.fromkeys(chain(*forbidden.making.values()))
            _not_permitted(look, place, [*making, *forbidden.publish], forbidden.subscribe)
            # Without the permission a request gets no answer, and each would wait for its timeout.
            return
        look.ok("every subject that it needs is permitted")
        account = await _account(server, look)
        if account is None:
            return
        try:
            missing = await look_at_streams(server, look, clock)
        except _NO_ANSWER:
            look.failed(*_SILENT)
            return
    for stream, patterns in forbidden.making.items():
        if stream in {config.name for config in missing}:
            _not_permitted(look, place, patterns, ())
        else:
            look.note(f"the bot may not make or change the stream {stream}: if it is gone, events wait")
    kinds = {StorageType.FILE: server.has_events, StorageType.MEMORY: server.has_sandboxes}
    _room(look, account, missing, [kind for kind, is_here in kinds.items() if is_here])
    _replicas(look, server.settings.nats_replicas, about)


def _about(server: Server) -> Mapping[str, Any]:
    """Return the server's INFO of the connection; nats-py has no public name for it."""
    return getattr(server.nats.client, "_server_info", None) or {}


def _payload(look: Look, size: int) -> None:
    if size >= _PAYLOAD:
        return
    shown = f"{size // 1024} KiB" if size >= 1024 else f"{size} bytes"
    detail = f"a message may have {shown} at most (max_payload)"
    mend = "In nats-server's configuration:"
    if size < _LEAST_PAYLOAD:
        look.failed(f"{detail}, and ordinary events have more", mend, ["max_payload: 8MB"])
    else:
        look.note(
            f"{detail}: larger events are compressed, or become dead letters", mend, ["max_payload: 8MB"]
        )


def _not_permitted(look: Look, place: Place, publish: Sequence[str], subscribe: Sequence[str]) -> None:
    what, commands = [], []
    for verb, patterns in (("publish", publish), ("subscribe", subscribe)):
        if patterns:
            what.append(f"{verb} to {', '.join(patterns)}")
            listed = ", ".join(f'"{pattern}"' for pattern in patterns)
            commands.append(f"{verb}: {{allow: [{listed}]}}")
    who = f"the user {place.user}" if place.user else "the user"
    look.failed(
        f"{who} may not {' and may not '.join(what)}",
        "Add these to the permissions of this user in nats-server's configuration, take them out of `deny` "
        "where they stand there, and reload it (nats-server --signal reload):",
        commands,
    )


async def _account(server: Server, look: Look) -> AccountInfo | None:
    """Return the account's limits; None when it has no JetStream."""
    try:
        return await server.js.account_info()
    except APIError as error:
        if error.err_code == _NOT_FOR_ACCOUNT:
            look.failed(
                "the user's account has no JetStream",
                "In nats-server's configuration, in the account of this user:",
                ["jetstream: enabled"],
            )
        elif error.err_code == _NO_LEADER:
            look.failed(
                "JetStream's cluster has no leader",
                "Bring its servers back: more than half of them have to run.",
            )
        elif isinstance(error, ServiceUnavailableError):
            look.failed(
                "JetStream is off, or still starting",
                "Start nats-server with -js, or in its configuration:",
                ['jetstream: {store_dir: "/var/lib/nats"}'],
            )
        else:
            look.failed(f"JetStream refuses: {error.description}", "Fix the reason; then run doctor again.")
    except nats.errors.TimeoutError:
        look.failed(*_SILENT)
    return None


def _room(
    look: Look, account: AccountInfo, missing: Sequence[StreamConfig], kinds: Collection[StorageType | None]
) -> None:
    """Check that the account's limits leave room for the streams and their events."""
    limits = account.limits
    where = "In nats-server's configuration, in the account's jetstream block, or by `nsc edit account`:"
    if limits.max_streams >= 0 and account.streams + len(missing) > limits.max_streams:
        look.failed(
            f"the account may have {limits.max_streams} streams and has {account.streams}: "
            f"{len(missing)} more are needed",
            where,
            [f"max_streams: {account.streams + len(missing)}"],
        )
    if limits.max_consumers >= 0 and account.consumers >= limits.max_consumers:
        look.failed(
            f"the account has all of its {limits.max_consumers} consumers",
            where,
            [f"max_consumers: {account.consumers + 10}"],
        )
    if limits.max_bytes_required and missing:
        look.failed(
            "the account wants a size limit of each stream (max_bytes_required), and the bot sets none",
            where,
            ["max_bytes_required: false"],
        )
    for kind, most, used in (
        (StorageType.MEMORY, limits.max_memory, account.memory),
        (StorageType.FILE, limits.max_storage, account.storage),
    ):
        if kind in kinds and 0 <= most < used + _LEAST_ROOM:
            name = "max_mem" if kind is StorageType.MEMORY else "max_file"
            stream = "the sandboxes'" if kind is StorageType.MEMORY else "production's"
            look.failed(
                f"the account may store {most // _MEGABYTE} MiB in {kind.value}, and has used "
                f"{used // _MEGABYTE}: too little for {stream} stream",
                where,
                [f"{name}: {(used + _LEAST_ROOM) // _MEGABYTE + 1}MB"],
            )


def _replicas(look: Look, wanted: int, about: Mapping[str, Any]) -> None:
    if wanted == 1:
        return
    if not about.get("cluster"):
        look.failed(
            f"it is a single server, and NATS_REPLICAS asks for {wanted} replicas",
            "Set it in the environment or in .env:",
            ["NATS_REPLICAS=1"],
        )
        return
    # A server may be configured to hide its peers' addresses.
    known = len(set(about.get("connect_urls") or ()))
    if 0 < known < wanted:
        look.note(f"its cluster names {known} servers, and NATS_REPLICAS asks for {wanted} replicas")
