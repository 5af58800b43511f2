"""The pages of `/sandbox list`. A button's id has the page and the filters; a press reads the list again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import discord

from sandbox_core.models import SandboxStatus

from . import _render_list
from ._buttons import below, button
from ._reply import Answer

if TYPE_CHECKING:
    from sandbox_core.bootstrap import Core

ARGUMENTS = (
    r"(?P<page>[0-9]{1,6}):(?P<owner>[0-9]{0,20}):"
    rf"(?P<status>{'|'.join(SandboxStatus)}|):(?P<everything>[01])"
)
"""What follows `sandbox:list:` in a button's id."""


@dataclass(frozen=True, slots=True)
class Filters:
    """Which sandboxes are listed."""

    owner: str | None = None
    status: SandboxStatus | None = None
    everything: bool = False
    """Whether destroyed sandboxes are listed, too."""

    @classmethod
    def from_match(cls, match: re.Match[str]) -> Filters:
        """Read the filters from a button's id."""
        status = SandboxStatus(match["status"]) if match["status"] else None
        return cls(match["owner"] or None, status, match["everything"] == "1")

    def button_id(self, page: int) -> str:
        """Return the id of the button that shows this page."""
        return f"sandbox:list:{page}:{self.owner or ''}:{self.status or ''}:{int(self.everything)}"


async def page_of(core: Core, filters: Filters, page: int, *, viewer: str) -> Answer:
    """Return one page of the current list, as this person sees it."""
    sandboxes = await core.manager.list(
        owner=filters.owner,
        status=filters.status,
        include_destroyed=filters.everything or filters.status is SandboxStatus.DESTROYED,
        shared=True,
    )
    filtered = filters.owner is not None or filters.status is not None
    embed = _render_list.listing(sandboxes, filtered=filtered, page=page, viewer=viewer)
    pages = _render_list.page_count(sandboxes)
    page = min(max(page, 1), pages)
    return Answer(embed, _turning(filters, page, pages) if pages > 1 else None)


def _turning(filters: Filters, page: int, pages: int) -> discord.ui.View:
    return below(
        button("Previous", filters.button_id(page - 1), disabled=page == 1),
        button("Next", filters.button_id(page + 1), disabled=page == pages),
    )
