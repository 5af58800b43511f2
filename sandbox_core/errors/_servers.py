"""What fails because of a server."""

from __future__ import annotations

from typing import Self

from ._base import SandboxError


class SchemaCreationFailed(SandboxError):
    """PostgreSQL refused to create the sandbox's schema. `reason` is PostgreSQL's own short message."""

    code = "SANDBOX_005"

    def __init__(self, schema: str, reason: str) -> None:
        super().__init__(schema, reason)
        self.schema = schema
        self.reason = reason


class CleanupFailed(SandboxError):
    """A step of the destruction failed; the sandbox stays `destroying` until a later pass removes it."""

    code = "SANDBOX_006"

    def __init__(self, sandbox_name: str, step: str, reason: str) -> None:
        super().__init__(sandbox_name, step, reason)
        self.sandbox_name = sandbox_name
        self.step = step
        self.reason = reason


class ResetUnfinished(SandboxError):
    """A step of a reset failed; a repetition finishes it, and so does the bot."""

    code = "SANDBOX_006"

    def __init__(self, sandbox_name: str, step: str, reason: str) -> None:
        super().__init__(sandbox_name, step, reason)
        self.sandbox_name = sandbox_name
        self.step = step
        self.reason = reason


class StillWritten(SandboxError):
    """A removal found new data again and again, because a worker still writes it.

    `dependency` is the store; `what` is the kind of data, such as `keys`.
    """

    code = "SANDBOX_006"

    def __init__(self, dependency: str, what: str) -> None:
        super().__init__(dependency, what)
        self.dependency = dependency
        self.what = what


class DependencyUnavailable(SandboxError):
    """A needed server is away or did not answer in time.

    Nothing was changed, unless it is an `OutcomeUnknown`, a `CutOff` or a `NotFinished`.
    `dependency` is `PostgreSQL`, `Redis`, `NATS` or `Discord`; `problem` is what is wrong; `where` is the
    server's host and port, or empty. None of them is a secret.
    """

    code = "SANDBOX_012"

    def __init__(self, dependency: str, problem: str, where: str = "") -> None:
        super().__init__(dependency, problem, where)
        self.dependency = dependency
        self.problem = problem
        self.where = where

    def __str__(self) -> str:
        return f"{self.code} {type(self).__name__}({self.dependency}, {self.reason})"

    @property
    def reason(self) -> str:
        """The problem and the place, for a log line or a readiness answer that names the server already."""
        return f"{self.problem} at {self.where}" if self.where else self.problem

    @property
    def named_reason(self) -> str:
        """The reason where nothing else names the server."""
        return f"{self.dependency}: {self.reason}"

    def located(self, where: str) -> Self:
        """Add the place unless it is known; return the same error."""
        self.where = self.where or where
        return self


class DependencyFaulty(DependencyUnavailable):
    """The server answers, but can't do now what was asked; `problem` has a subject of its own."""

    @property
    def reason(self) -> str:
        """What answered, and with what."""
        place = f" at {self.where}" if self.where else ""
        return f"answers{place}, but {self.problem}"

    @property
    def named_reason(self) -> str:
        """The server, and what it answered."""
        return f"{self.dependency} {self.reason}"


class NotFinished(DependencyUnavailable):
    """The work at the server took longer than it may; whether the server answers is not known."""

    def __init__(self, dependency: str, seconds: float, where: str = "") -> None:
        super().__init__(dependency, f"not done within {seconds:g} s", where)


class RotationUnfinished(DependencyUnavailable):
    """The old credentials count no more, and this server has not taken the new ones yet."""


class SharingUnfinished(DependencyUnavailable):
    """A colleague's access is changed, and this server has not taken that yet."""


class OutcomeUnknown(DependencyUnavailable):
    """The connection was lost while a change was committed: it is made completely, or not at all."""


class CutOff(DependencyUnavailable):
    """A change took too long and was given up: it may be made, not made, or still be undone.

    `fault` is what it waited for.
    """

    def __init__(self, fault: DependencyUnavailable) -> None:
        super().__init__(fault.dependency, fault.problem, fault.where)
        self.fault = fault

    @property
    def reason(self) -> str:
        """What it waited for."""
        return self.fault.reason


class LoginRefused(DependencyUnavailable):
    """The server answers, but refuses the login or a permission (`refused`).

    `where` is its host and port, `user` the user, `problem` the reason, `setting` the setting to check. None
    of them is a secret.
    """

    def __init__(
        self, dependency: str, *, where: str, user: str, problem: str, setting: str, refused: str = "login"
    ) -> None:
        super().__init__(dependency, problem, where)
        self.refused = refused
        self.user = user
        self.setting = setting

    @property
    def reason(self) -> str:
        """Who was refused, where and why, and what to check."""
        return f"{self.refused} refused at {self.where} as {self.user}: {self.problem}; check {self.setting}"


class NotMigrated(DependencyUnavailable):
    """The database answers, but it lacks this project's tables or functions."""

    def __init__(self) -> None:
        super().__init__("PostgreSQL", "the migrations are not applied")


class StreamUnusable(DependencyUnavailable):
    """NATS answers, but a stream there belongs to others, or can't be configured as needed.

    `server` is its host and port, or empty; `problem` continues a sentence after the stream's name; `mend`
    says what to do.
    """

    def __init__(self, stream: str, server: str, problem: str, mend: str) -> None:
        super().__init__("NATS", f"the stream {stream} {problem}")
        self.stream = stream
        self.server = server
        self.mend = mend
