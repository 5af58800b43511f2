"""Checks that every template can be read; whether PostgreSQL takes one shows at a `create`."""

from __future__ import annotations

from sandbox_core.error_text import explain
from sandbox_core.errors import DoesNotFit
from sandbox_core.settings import Settings
from sandbox_core.templates import Templates
from sandbox_core.words import counted

from .findings import Look


async def look_at_templates(settings: Settings, look: Look) -> None:
    """Read each one."""
    templates = Templates.of(settings)
    names = await templates.names()
    right = 0
    for name in names:
        try:
            await templates.chosen(name)
        except DoesNotFit as error:
            text = explain(error)
            look.failed(text.sentence.rstrip("."), text.way_out)
        else:
            right += 1
    if right or not names:
        look.ok(f"{counted(right, 'template', 'templates')} can be read")
