"""The libraries' bots: those of CI, or with `make compat` all of them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest

from sandbox_bot.embedded import EmbeddedServers
from tests.isolation.conftest import closed

from .libraries import Library, NotInstalled, chosen
from .place import LibrarysBot, Place, place_for

__all__ = ["closed"]

CHOSEN = chosen(os.environ.get("SANDBOX_COMPAT", ""))


def require(library: Library) -> tuple[str, ...]:
    """Return the command of the library's bot.

    Under CI a missing library fails; elsewhere the test is skipped.
    """
    try:
        return library.command()
    except NotInstalled as error:
        if os.environ.get("CI") or os.environ.get("SANDBOX_COMPAT"):
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="module")
async def place(
    closed: EmbeddedServers,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Place]:
    """The bots of all libraries, at once."""
    async with place_for(closed, CHOSEN, tmp_path_factory.mktemp("compat")) as made:
        yield made


@pytest.fixture(scope="module", params=CHOSEN, ids=lambda library: library.name)
def library(request: pytest.FixtureRequest) -> Library:
    """One library after the other."""
    found: Library = request.param
    return found


@pytest.fixture
async def bot(place: Place, library: Library) -> LibrarysBot:
    """Its bot."""
    require(library)
    found = place.bots[library.name]
    if not found.program.running:
        await place.all_running()
    return found
