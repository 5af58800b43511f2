"""`tenant-nats`: prints the configuration of the sandboxes' NATS server."""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import Annotated

import typer

from sandbox_core.credentials import CredentialsKey
from sandbox_core.nats.tenant.configuration import (
    DEFAULT_LIMITS,
    ServerPlace,
    TenantLimits,
    tenant_configuration,
)
from sandbox_core.nats.tenant.keys import TenantKeys
from sandbox_core.settings import SettingsError, load_tenant_nats_settings

from .. import _streams
from ..exit_codes import ExitCode
from ._exit import fail


def tenant_nats(
    *,
    slots: Annotated[int, typer.Option(min=1, max=1000, help="The most sandboxes.")] = DEFAULT_LIMITS.slots,
    memory: Annotated[
        int | None,
        typer.Option(
            min=16,
            help="The memory of one sandbox's streams in MiB.",
            show_default="SANDBOX_STREAM_MB",
        ),
    ] = None,
    connections: Annotated[
        int | None,
        typer.Option(
            min=1, help="The most connections of one sandbox.", show_default="SANDBOX_NATS_CONNECTIONS"
        ),
    ] = None,
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
    given = {"sandbox_stream_mb": memory, "sandbox_nats_connections": connections}
    try:
        settings = load_tenant_nats_settings(**{key: each for key, each in given.items() if each is not None})
    except SettingsError as error:
        fail(error.problems, ExitCode.USAGE)
    keys = TenantKeys(CredentialsKey(settings.sandbox_credentials_key))
    limits = TenantLimits.of(settings, slots=slots, replicas=replicas)
    place = ServerPlace(
        name, host, port, PurePosixPath(store), cluster, host, cluster_port, route or (), monitor
    )
    _streams.write(json.dumps(tenant_configuration(keys, limits, place), indent=2))
