"""`tenant-nats`: prints the configuration of the sandboxes' NATS server."""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import Annotated

import typer

from sandbox_core.nats.tenant.configuration import ServerPlace, TenantLimits, tenant_configuration
from sandbox_core.nats.tenant.keys import TenantKeys
from sandbox_core.settings import SettingsError, load_key

from .. import _streams
from ..exit_codes import ExitCode
from ._exit import fail

_MIB = 1024 * 1024
_DEFAULT = TenantLimits()


def tenant_nats(
    *,
    slots: Annotated[int, typer.Option(min=1, max=1000, help="The most sandboxes.")] = _DEFAULT.slots,
    memory: Annotated[
        int, typer.Option(min=16, help="The memory of one sandbox's streams in MiB.")
    ] = _DEFAULT.memory // _MIB,
    connections: Annotated[
        int, typer.Option(min=1, help="The most connections of one sandbox.")
    ] = _DEFAULT.connections,
    name: Annotated[str, typer.Option(help="The server's name; different for each one of a cluster.")] = (
        "sandboxes"
    ),
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 4222,
    store: Annotated[str, typer.Option(help="The directory of JetStream's files.")] = "/data",
    monitor: Annotated[str, typer.Option(help="Where to serve pages about the server, as host:port.")] = "",
    cluster: Annotated[str, typer.Option(help="The cluster's name, for a server of a cluster.")] = "",
    cluster_port: Annotated[int, typer.Option(min=1, max=65535, help="Its port for the others.")] = 6222,
    route: Annotated[list[str] | None, typer.Option(help="Each server of the cluster, as host:port.")] = None,
    replicas: Annotated[int, typer.Option(min=1, max=5, help="On how many servers each stream is.")] = 1,
) -> None:
    """Print the configuration of the sandboxes' NATS server.

    It has the passwords of the bot's users, made from SANDBOX_CREDENTIALS_KEY.
    """
    try:
        keys = TenantKeys(load_key())
    except SettingsError as error:
        fail(error.problems, ExitCode.USAGE)
    limits = TenantLimits(slots, memory * _MIB, replicas, connections)
    place = ServerPlace(
        name, host, port, PurePosixPath(store), cluster, host, cluster_port, route or (), monitor
    )
    _streams.write(json.dumps(tenant_configuration(keys, limits, place), indent=2))
