"""`rotate`: gives a sandbox new credentials, and cuts the old ones."""

from __future__ import annotations

from sandbox_core.bootstrap import NatsUse
from sandbox_core.manager import Changed, utc_now

from . import _caller as caller
from . import _json as json
from . import _options as options
from ._exit import run
from ._screen import Line, busy, emit, note, show
from ._session import opened


def rotate(name: options.Name, owner: options.Owner = None, as_json: options.Json = False) -> None:
    """Give a sandbox new credentials; the old ones and their connections are cut at once."""
    with busy("Rotating"):
        rotated = run(_rotate(name, owner))
    if as_json:
        emit(json.rotated(rotated, utc_now()))
        return
    show(Line(f"{rotated.sandbox.name} has new credentials. The old ones and their connections are cut."))
    note(f'\nFor a worker: eval "$(sandboxctl connect {rotated.sandbox.name})"')


async def _rotate(name: str, owner: str | None) -> Changed:
    # The sandboxes' NATS server is told to end connections.
    async with opened(NatsUse.SANDBOXES) as core:
        return await core.manager.rotate(caller.actor(owner, core.settings), name)
