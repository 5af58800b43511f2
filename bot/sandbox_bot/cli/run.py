"""`run`: the bot itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import typer

from sandbox_core.credentials import LEAST_KEY
from sandbox_core.settings import Settings, load_settings, require_discord

from .._gateway_process import gateway_process
from .._loading import loading
from ..exit_codes import ExitCode
from ..migrate import MigrationError
from ..migrate import migrate as apply_migrations
from ._exit import CommandFailed
from ._exit import run as run_command


def run(
    embedded: Annotated[
        bool, typer.Option("--embedded", help="Start PostgreSQL, Valkey and nats-server, too.")
    ] = False,
    data_dir: Annotated[
        Path, typer.Option(help="Where the embedded servers keep their data.", file_okay=False)
    ] = Path(".local"),
) -> None:
    """Run the bot: slash commands, gateway routing and the ops endpoint.

    With --embedded also the endpoint for unmodified bots, `sandboxctl gateway`.
    """
    run_command(_run_embedded(data_dir) if embedded else _run(load_settings))


async def _run(load: Callable[[], Settings]) -> None:
    # discord.py and its HTTP client take longer to load than most commands take to run.
    with loading():
        from sandbox_core.ops import OpsAddressError  # noqa: PLC0415

        from ..logs import configure_logging, log_misspelt_settings  # noqa: PLC0415
        from ..runner import StartRefusedError, run_bot, stop_on_signals  # noqa: PLC0415

    settings = load()
    require_discord(settings)
    configure_logging(settings)
    log_misspelt_settings()
    stop = asyncio.Event()
    try:
        with stop_on_signals(stop):
            await run_bot(settings, stop=stop)
    except (StartRefusedError, OpsAddressError) as error:
        raise CommandFailed([str(error)], ExitCode.USAGE) from None


async def _run_embedded(data_dir: Path) -> None:
    from ..embedded import EmbeddedServerError  # noqa: PLC0415 - an extra, needed here only

    # Check the settings before the servers start; these addresses stand for the real ones.
    settings = load_settings(
        **_addresses("postgresql://localhost/x", "redis://localhost", "nats://localhost"),
        sandbox_database_url="postgresql://localhost/y",
        sandbox_redis_url="redis://localhost:1",
        sandbox_nats_url="nats://localhost:1",
        sandbox_credentials_key="x" * LEAST_KEY,
    )
    require_discord(settings)
    try:
        async with _servers(data_dir, settings) as addresses, gateway_process(addresses):
            await _run(lambda: load_settings(**addresses))
    except (MigrationError, EmbeddedServerError) as error:
        raise CommandFailed([str(error)], ExitCode.DEPENDENCY) from None


@asynccontextmanager
async def _servers(data_dir: Path, settings: Settings) -> AsyncIterator[dict[str, str]]:
    from .._shell_file import shell_file  # noqa: PLC0415
    from ..embedded import embedded_servers, tenant_limits  # noqa: PLC0415

    async with embedded_servers(data_dir, tenant_limits=tenant_limits(settings)) as servers:
        await apply_migrations(servers.database_url, schema=settings.sandbox_control_schema)
        key = {"sandbox_credentials_key": servers.credentials_key}
        tenant_side = servers.tenant_settings if settings.enforced else key
        addresses = _addresses(servers.database_url, servers.redis_url, servers.nats_url) | tenant_side
        with shell_file(data_dir, addresses):
            yield addresses


def _addresses(database_url: str, redis_url: str, nats_url: str) -> dict[str, str]:
    return {"database_url": database_url, "redis_url": redis_url, "nats_url": nats_url}
