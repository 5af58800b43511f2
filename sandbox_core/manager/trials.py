"""Throw-away sandboxes, with which somebody tries the servers; nobody's limit counts them.

They are ordinary sandboxes with a short life: whatever becomes of the process that made them, the cleanup
removes them.
"""

from __future__ import annotations

from dataclasses import replace

from sandbox_core.models import Actor
from sandbox_core.templates import NONE

from .create import create
from .ports import Changed, Tools

OWNER = "doctor"
"""The owner of throw-away sandboxes; no Discord user, so nobody gets notices about them."""
LIFE = "2m"
"""Longer than any trial; until its end others can't tell that its process is gone."""
_AT_ONCE = 20
"""The most of them: somebody may press a button again and again."""


def trial_actor(actor: Actor) -> Actor:
    """Return who acts in a trial; the audit log names `actor`, too."""
    return Actor(OWNER, "isolation trial", via=actor.signature)


async def create_trial(tools: Tools, actor: Actor, name: str) -> Changed:
    """Create a throw-away sandbox."""
    own = replace(tools, limits=replace(tools.limits, max_per_owner=_AT_ONCE))
    return await create(own, trial_actor(actor), {"name": name, "ttl": LIFE, "template": NONE})
