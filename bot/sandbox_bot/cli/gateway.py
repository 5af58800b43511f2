"""`gateway`: the endpoint for the unmodified bots of sandboxes, in a process of its own."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import typer

from sandbox_core import tasks
from sandbox_core.settings import load_settings

from .. import self_signed
from .._loading import loading
from ..exit_codes import ExitCode
from ._exit import CommandFailed
from ._exit import run as run_command


def gateway(
    while_stdin_is_open: Annotated[
        bool, typer.Option("--while-stdin-is-open", hidden=True, help="End with whoever started this.")
    ] = False,
    tls_self_signed: Annotated[
        Path | None,
        typer.Option(
            "--tls-self-signed",
            metavar="FOLDER",
            help="Serve TLS for Discord's own names, with a certificate that is made in this folder.",
        ),
    ] = None,
    reuse_port: Annotated[
        bool,
        typer.Option(
            "--reuse-port",
            help="Let another process of this installation listen on the same port, to take over.",
        ),
    ] = False,
) -> None:
    """Run the endpoint where the sandboxes' own bots connect: Discord's gateway and REST, as each may see it.

    Any number of these processes can run; a bot's session goes on at any of them.
    """
    run_command(_run(tls_self_signed, while_stdin_is_open=while_stdin_is_open, reuse_port=reuse_port))


async def _run(tls_folder: Path | None, *, while_stdin_is_open: bool, reuse_port: bool) -> None:
    with loading():
        from sandbox_gateway.process import EndpointAddressError, require_endpoint, run_endpoint  # noqa: PLC0415

        from ..logs import configure_logging, log_misspelt_settings  # noqa: PLC0415
        from ..runner import stop_on_signals  # noqa: PLC0415

    settings = load_settings()
    require_endpoint(settings)
    tls = None
    if tls_folder is not None:
        try:
            tls = self_signed.context(tls_folder)
        except self_signed.CertificateError as error:
            raise CommandFailed([str(error)], ExitCode.USAGE) from None
        if settings.sandbox_gateway_url is None:
            # What it tells its clients of itself.
            settings = settings.model_copy(update={"sandbox_gateway_url": self_signed.URL})
    configure_logging(settings)
    log_misspelt_settings()
    stop = asyncio.Event()
    try:
        with stop_on_signals(stop):
            async with _ending_with_stdin(stop, watched=while_stdin_is_open):
                await run_endpoint(settings, stop=stop, tls=tls, reuse_port=reuse_port)
    except EndpointAddressError as error:
        raise CommandFailed([str(error)], ExitCode.USAGE) from None


@asynccontextmanager
async def _ending_with_stdin(stop: asyncio.Event, *, watched: bool) -> AsyncIterator[None]:
    """Set `stop` at the end of standard input: the system closes it also when its writer was killed."""
    if not watched:
        yield
        return
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(os.dup(sys.stdin.fileno()), "rb")
    )

    async def watch() -> None:
        await reader.read()
        stop.set()

    watching = asyncio.create_task(watch(), name="stdin")
    try:
        yield
    finally:
        await tasks.end(watching)
        transport.close()
