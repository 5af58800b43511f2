"""Says what is known of work that took too long and was cut off.

Cut off work is cancelled, and its end is not waited for. A change may be committed by then, or it may still
be undone. So it is never said of a change that nothing was changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox_core.errors import CleanupFailed, CutOff, DependencyUnavailable, NotFinished, SandboxError
from sandbox_core.models import SandboxStatus
from sandbox_core.namespaces import PartState
from sandbox_core.tasks import within

if TYPE_CHECKING:
    from sandbox_core.bootstrap import Core

PROBE_SECONDS = 1.0
"""The limit in seconds to find out which server is away, or what became of a sandbox."""


async def what_is_away(core: Core, waited: float) -> DependencyUnavailable:
    """Return which server the work waited for, `waited` seconds: the first that does not answer now.

    When all of them answer, it was a lock in PostgreSQL, or much work. Only for work that changes nothing.
    """
    system = await core.health.check_system(within=PROBE_SECONDS)
    for each in system.checks:
        if each.state is PartState.UNHEALTHY:
            return each.fault or DependencyUnavailable(each.store, each.detail)
    return NotFinished("PostgreSQL", waited)


async def perhaps_changed(core: Core, waited: float) -> CutOff:
    """Return the error for a change that took longer than `waited` seconds."""
    return CutOff(await what_is_away(core, waited))


async def perhaps_destroyed(core: Core, reference: str, waited: float) -> SandboxError:
    """Return the error for a destruction that took longer: what it stopped at, when it is known to go on."""
    try:
        sandbox = await within(PROBE_SECONDS, core.manager.get(reference))
    except (SandboxError, TimeoutError):
        return await perhaps_changed(core, waited)
    if sandbox.status is not SandboxStatus.DESTROYING:
        return await perhaps_changed(core, waited)
    return CleanupFailed(sandbox.name, "waiting for the stores", f"no answer in {waited:g} seconds")
