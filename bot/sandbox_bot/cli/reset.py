"""`reset`: makes a sandbox anew, with its servers, its credentials and its expiry."""

from __future__ import annotations

from sandbox_core.bootstrap import NatsUse
from sandbox_core.manager import Changed, utc_now
from sandbox_core.models import Sandbox

from .._streams import write
from . import _caller as caller
from . import _json as json
from . import _options as options
from . import _views as views
from ._exit import run
from ._screen import busy, confirm, emit, must_be_answerable
from ._session import opened


def reset(
    name: options.Name,
    template: options.OtherTemplate = None,
    owner: options.Owner = None,
    yes: options.Yes = False,
    as_json: options.Json = False,
) -> None:
    """Empty a sandbox, and begin it anew with its template; asks first."""
    must_be_answerable(yes)
    with busy("Looking it up"):
        sandbox = run(_check(name, owner, template))
    confirm(f"Reset {sandbox.name}?", yes=yes, told=views.emptying(sandbox, template))
    with busy("Resetting"):
        done = run(_reset(sandbox, owner, template))
    if as_json:
        emit(json.reset(done, utc_now()))
    else:
        write(f"{done.sandbox.name} is empty again{views.with_template(done.sandbox.template)}.")


async def _check(name: str, owner: str | None, template: str | None) -> Sandbox:
    async with opened() as core:
        # Checked now and while resetting: a caller without the right gets no question.
        return await core.manager.check_reset(caller.actor(owner, core.settings), name, template=template)


async def _reset(sandbox: Sandbox, owner: str | None, template: str | None) -> Changed:
    async with opened(NatsUse.SANDBOXES) as core:
        # By id: another sandbox may have the name since the question.
        return await core.manager.reset(
            caller.actor(owner, core.settings), str(sandbox.id), template=template
        )
