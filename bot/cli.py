"""`sandboxctl`: the command line over the same core."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer

from sandbox_core.settings import (
    Settings,
    SettingsError,
    load_database_settings,
    load_settings,
    require_discord,
)

from .embedded import EmbeddedServerError, embedded_servers
from .logs import configure_logging
from .migrate import MigrationError, migrate
from .ops import OpsAddressError
from .runner import ExitCode, StartRefusedError, run_bot, stop_on_signals

app = typer.Typer(
    name="sandboxctl",
    help="Isolated sandboxes for the developers of a Discord bot.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_Result = TypeVar("_Result")


@app.callback()
def _root() -> None:
    """Keeps `run` a subcommand, however many there are."""


@app.command()
def run(
    embedded: Annotated[
        bool, typer.Option("--embedded", help="Bring PostgreSQL, Valkey and nats-server along.")
    ] = False,
    data_dir: Annotated[
        Path, typer.Option(help="Where the embedded servers keep their data.", file_okay=False)
    ] = Path(".local"),
) -> None:
    """Run the bot: slash commands, gateway routing and the ops endpoint."""
    _finish(_run_embedded(data_dir) if embedded else _run(load_settings))


@app.command(name="migrate")
def migrate_command(
    down: Annotated[bool, typer.Option("--down", help="Undo the latest migration instead.")] = False,
) -> None:
    """Bring the database named by DATABASE_URL up to date; twice is harmless."""
    _finish(_migrate(down))


async def _run(load: Any) -> None:
    settings: Settings = load()
    require_discord(settings)
    configure_logging(settings)
    stop = asyncio.Event()
    with stop_on_signals(stop):
        await run_bot(settings, stop=stop)


async def _run_embedded(data_dir: Path) -> None:
    # The settings are judged before servers are started for them: these addresses stand for theirs.
    require_discord(
        load_settings(**_addresses("postgresql://localhost/x", "redis://localhost", "nats://localhost"))
    )
    async with _servers(data_dir) as addresses:
        await _run(lambda: load_settings(**addresses))


@asynccontextmanager
async def _servers(data_dir: Path) -> AsyncIterator[dict[str, str]]:
    async with embedded_servers(data_dir) as servers:
        await migrate(servers.database_url)
        yield _addresses(servers.database_url, servers.redis_url, servers.nats_url)


def _addresses(database_url: str, redis_url: str, nats_url: str) -> dict[str, str]:
    return {"database_url": database_url, "redis_url": redis_url, "nats_url": nats_url}


async def _migrate(down: bool) -> None:
    await migrate(load_database_settings().database_url.get_secret_value(), down=down)
    typer.echo("The latest migration is undone." if down else "The database is up to date.")


def _finish(work: Coroutine[Any, Any, None]) -> NoReturn:
    """Run `work` and end the process with the exit code its outcome has; never with a traceback."""
    try:
        run_on_fast_loop(work)
    except SettingsError as error:
        _fail(error.problems, ExitCode.USAGE)
    except (StartRefusedError, OpsAddressError) as error:
        _fail([str(error)], ExitCode.USAGE)
    except (MigrationError, EmbeddedServerError) as error:
        _fail([str(error)], ExitCode.DEPENDENCY)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    raise typer.Exit(ExitCode.DONE)


def _fail(lines: list[str], code: ExitCode) -> NoReturn:
    for line in lines:
        typer.echo(line, err=True)
    raise typer.Exit(code)


def run_on_fast_loop(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Run `work` to its end on uvloop where that exists, else on asyncio's own loop."""
    factory = None
    if sys.platform != "win32":
        import uvloop  # noqa: PLC0415 - not there on Windows

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory, debug=bool(os.environ.get("PYTHONASYNCIODEBUG"))) as runner:
        return runner.run(work)


def main() -> None:
    """The console script."""
    app()
