"""What is refused because sandboxes can't be kept apart."""

from __future__ import annotations

from ._base import SandboxError


class IsolationImpossible(SandboxError):
    """A server of the sandboxes can't keep them apart, as `SANDBOX_ISOLATION=enforced` asks for.

    `where` is its host and port; `problem` continues a sentence; `mend` says what the operator must do.
    """

    code = "SANDBOX_013"

    def __init__(self, dependency: str, where: str, problem: str, mend: str) -> None:
        super().__init__(dependency, where, problem, mend)
        self.dependency = dependency
        self.where = where
        self.problem = problem
        self.mend = mend


class NoCredentials(SandboxError):
    """The sandbox has no credentials of its own, or none that the bot knows.

    `outdated` means that they were made with another SANDBOX_CREDENTIALS_KEY than the bot's.
    """

    code = "SANDBOX_013"

    def __init__(self, sandbox_name: str, *, outdated: bool = False) -> None:
        super().__init__(sandbox_name, outdated)
        self.sandbox_name = sandbox_name
        self.outdated = outdated


class SharingImpossible(SandboxError):
    """The sandbox keeps apart by convention, so a colleague's access to it could not be taken away again."""

    code = "SANDBOX_013"

    def __init__(self, sandbox_name: str) -> None:
        super().__init__(sandbox_name)
        self.sandbox_name = sandbox_name


class ProductionTokenOutdated(SandboxError):
    """The token of production's own bot was made with another SANDBOX_CREDENTIALS_KEY than the bot's."""

    code = "SANDBOX_013"


class SlotsUsedUp(SandboxError):
    """The sandboxes' NATS server has an account for each of `slots` sandboxes, and none is free."""

    code = "SANDBOX_014"

    def __init__(self, where: str, slots: int) -> None:
        super().__init__(where, slots)
        self.where = where
        self.slots = slots
