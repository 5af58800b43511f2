"""`psql`: PostgreSQL's own shell, at the bot's database or in a sandbox's schema."""

from __future__ import annotations

from typing import Annotated

import typer

from sandbox_core.addresses import PostgresAddress
from sandbox_core.settings import load_settings

from . import _caller as caller
from . import _options as options
from ._become import become
from ._exit import run
from ._servers import libpq_variables, worker_addresses
from ._session import opened


def psql(
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[ARGS]...", help="Arguments of psql, such as -c.")
    ] = None,
    sandbox: Annotated[
        str | None,
        typer.Option(
            "--sandbox",
            metavar="NAME",
            help="Work in this sandbox's schema.",
            autocompletion=options.suggest_names,
        ),
    ] = None,
    owner: options.Owner = None,
    program: Annotated[
        str, typer.Option("--program", help="Another of PostgreSQL's programs, such as pg_dump.")
    ] = "psql",
) -> None:
    """Run psql at DATABASE_URL, with the password out of the process list: sandboxctl psql -- -c "..."."""
    address, schema = run(_place(sandbox, owner))
    words = [word for number, word in enumerate(arguments or ()) if (number, word) != (0, "--")]
    become([program, *words], {**address, **schema}, otherwise=": it comes with PostgreSQL's client programs")


async def _place(name: str | None, owner: str | None) -> tuple[dict[str, str], dict[str, str]]:
    settings = load_settings()
    if name is None:
        return libpq_variables(settings.database, settings.sandbox_control_schema), {}
    async with opened() as core:
        sandbox = await caller.named(core.manager, name, owner)
        own = core.manager.credentials_for(caller.actor(owner, core.settings), sandbox).get("DATABASE_URL")
        address = PostgresAddress.parse(own or worker_addresses(settings)["DATABASE_URL"])
        return libpq_variables(address, sandbox.schema_name), {"SANDBOX_SCHEMA": sandbox.schema_name}
