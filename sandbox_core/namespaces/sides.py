"""One store on several servers: new sandboxes on the first, and those that were made elsewhere before.

So an installation can change its isolation, or move its sandboxes to another server, while some live.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from sandbox_core.errors import IsolationImpossible, SandboxError
from sandbox_core.models import Sandbox
from sandbox_core.templates import Template

from .amounts import Amount, Pace
from .base import IsOrphan, Namespace, PartHealth, PartState
from .credentials import Credentials


class Sides:
    """A `Namespace` of several of the same store. It drops and lists on all of them."""

    def __init__(self, new: Namespace, *others: Namespace, settings: str, enforced: bool) -> None:
        """`new` gets the new sandboxes; `settings` names what is missing when no side has credentials.

        `enforced` means that new sandboxes get credentials.
        """
        self._new = new
        self._every = (new, *others)
        self._settings = settings
        self._enforced = enforced

    @property
    def store(self) -> str:
        """The store's name."""
        return self._new.store

    @property
    def credentials(self) -> Credentials | None:
        """The first logins there are: also those of sandboxes from before a change to `convention`."""
        return next((side.credentials for side in self._every if side.credentials is not None), None)

    async def provision(self, sandbox: Sandbox) -> None:
        """Create the part on the first side."""
        await self._new.provision(sandbox)

    async def drop(self, sandbox: Sandbox) -> None:
        """Remove the part from every side; a side that is away does not stop the others."""
        self._must_know(sandbox)
        failed: SandboxError | None = None
        for side in self._every:
            try:
                await side.drop(sandbox)
            except SandboxError as error:
                failed = failed or error
        if failed is not None:
            raise failed

    async def fill(self, sandbox: Sandbox, template: Template) -> None:
        """Run the template on the first side, where `provision` has made the part."""
        await self._new.fill(sandbox, template)

    async def renew(self, sandbox: Sandbox, template: Template | None) -> None:
        """Make the part anew on its side."""
        _, side = await self._found(sandbox)
        await side.renew(sandbox, template)

    async def check(self, sandbox: Sandbox) -> PartHealth:
        """Check the part on its side."""
        health, _ = await self._found(sandbox)
        return health

    async def _found(self, sandbox: Sandbox) -> tuple[PartHealth, Namespace]:
        """Return the part's health, and the side that has it: the likeliest one, when none has it."""
        self._must_know(sandbox)
        first, *others = sorted(self._every, key=lambda side: not self._is_likely(side, sandbox))
        health, found = await first.check(sandbox), first
        for side in others:
            if health.state is PartState.UNHEALTHY and not sandbox.generation:
                health = await side.check(sandbox)
                found = side if health.state is not PartState.UNHEALTHY else found
        return health, found

    def _is_likely(self, side: Namespace, sandbox: Sandbox) -> bool:
        if sandbox.generation or self._enforced:
            return (side.credentials is not None) == (sandbox.generation > 0)
        return side is self._new

    def _must_know(self, sandbox: Sandbox) -> None:
        if sandbox.generation and self.credentials is None:
            raise IsolationImpossible(
                self.store,
                "",
                "the sandbox is on a server that no setting names",
                f"Set {self._settings} again.",
            )

    async def measure(self, sandboxes: Sequence[Sandbox], pace: Pace) -> Mapping[UUID, Amount]:
        """Add up what each stores on the sides."""
        found: dict[UUID, Amount] = {}
        for side in self._every:
            # Those with credentials are nowhere else, and production's server is not asked in vain.
            here = [each for each in sandboxes if not each.generation or side.credentials is not None]
            if here:
                for sandbox_id, amount in (await side.measure(here, pace)).items():
                    found[sandbox_id] = found.get(sandbox_id, Amount()) + amount
        return found

    async def list_ids(self) -> set[str]:
        """Return the ids on every side."""
        return {each for side in self._every for each in await side.list_ids()}

    async def list_whole(self) -> set[str]:
        """Return the ids on every side."""
        return {each for side in self._every for each in await side.list_whole()}

    def always_has(self, sandbox: Sandbox) -> str:
        """Do as the first side."""
        return self._new.always_has(sandbox)

    def name_of(self, listed_id: str) -> str:
        """Do as the first side."""
        return self._new.name_of(listed_id)

    async def drop_orphan(self, listed_id: str, is_orphan: IsOrphan) -> bool:
        """Remove it from every side."""
        return any([await side.drop_orphan(listed_id, is_orphan) for side in self._every])
