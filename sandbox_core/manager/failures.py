"""A step of a removal that failed: its reason, what is stored of it, and when it is tried again."""

from __future__ import annotations

from datetime import timedelta

import structlog

from sandbox_core.error_text import explain
from sandbox_core.errors import DependencyUnavailable, SandboxError
from sandbox_core.models import Actor, AuditEvent, Sandbox, SandboxStatus
from sandbox_core.postgres import audit, sandboxes, transaction
from sandbox_core.postgres import cleanup as cleanup_rows

from .ports import TeardownTools

_log = structlog.get_logger("sandbox.manager")

_FIRST_RETRY = timedelta(seconds=5)
_LONGEST_PAUSE = timedelta(minutes=10)


class StepFailed(Exception):
    """A step of a removal failed. It never leaves the core: callers turn it into their own error."""

    def __init__(self, step: str, error: Exception) -> None:
        super().__init__(step)
        self.step = step
        self.error = error

    @property
    def reason(self) -> str:
        """The reason as one sentence without secrets."""
        return reason_of(self.error)


async def note_failure(tools: TeardownTools, actor: Actor, sandbox: Sandbox, failed: StepFailed) -> None:
    """Count the failure, and store its reason and the time of the next automatic attempt.

    Nothing is stored for a sandbox that another caller has destroyed meanwhile.
    """
    now = tools.clock()
    try:
        async with transaction(tools.pool) as connection:
            # Read it again: the attempt may have changed the status before it failed.
            current = await sandboxes.by_id(connection, sandbox.id, lock=True)
            if current is None or current.status is SandboxStatus.DESTROYED:
                return
            earlier = await cleanup_rows.attempts(connection, sandbox.id)
            next_attempt_at = now + pause_after(earlier + 1)
            news = await cleanup_rows.failed(
                connection,
                sandbox.id,
                step=failed.step,
                reason=failed.reason,
                next_attempt_at=next_attempt_at,
            )
            # The same failure again is only counted: a row for each would hide the rest of the log.
            if news:
                await audit.record(
                    connection,
                    sandbox.id,
                    AuditEvent.STATUS_CHANGED,
                    actor=actor,
                    at=now,
                    details={
                        "from": current.status.value,
                        "to": current.status.value,
                        "failed_step": failed.step,
                        "reason": failed.reason,
                        "failed_attempts": earlier + 1,
                        "next_attempt_at": next_attempt_at.isoformat(),
                    },
                )
    except DependencyUnavailable as error:
        # PostgreSQL itself is away. The sandbox stays `destroying`, so a later pass finds it.
        _log.warning(
            "failure_not_recorded",
            sandbox_id=str(sandbox.id),
            dependency=error.dependency,
            reason=error.reason,
        )
    except Exception:
        # The caller needs the failure itself, not this one.
        _log.exception("failure_not_recorded", sandbox_id=str(sandbox.id))


def pause_after(attempts: int) -> timedelta:
    """Return the pause of automatic cleanup after so many failures in a row."""
    doublings = min(max(attempts - 1, 0), 10)
    return min(_FIRST_RETRY * (1 << doublings), _LONGEST_PAUSE)


def reason_of(error: BaseException) -> str:
    """Return a `SandboxError`'s sentence; for any other error its type, as its text may contain secrets."""
    return explain(error).sentence if isinstance(error, SandboxError) else type(error).__name__
