"""What a shared sandbox uses, its colleagues' part included."""

from __future__ import annotations

from sandbox_core.bootstrap import Core
from sandbox_core.namespaces import SchemaProvisioner

from .conftest import ALICE, BOB, Held
from .test_sharing import shared


async def connections(core: Core) -> tuple[object, object]:
    """How many the sandbox has at PostgreSQL, and how many it may have, as `status` shows it."""
    health = await core.manager.health("mine")
    facts = next(part.facts for part in health.parts if part.store == SchemaProvisioner.store)
    return facts["connections"], facts["connections_limit"]


async def test_colleagues_connections_count(core: Core, mine: Held) -> None:
    most = core.settings.sandbox_database_connections
    own = await mine.postgres()
    assert await connections(core) == (1, most)
    his = await shared(core)
    theirs = await his.postgres()
    assert await connections(core) == (2, 2 * most)
    await theirs.close()
    await own.close()
    await core.manager.unshare(ALICE, "mine", BOB.id)
    assert await connections(core) == (0, most)
