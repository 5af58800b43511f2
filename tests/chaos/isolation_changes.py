"""An installation that goes from `convention` to `enforced` and back, while sandboxes live."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from .bots import ChaosError
from .reader import read_to_the_end
from .traffic import Operator, Unclear

if TYPE_CHECKING:
    from .stage import Stage

_TRIES = 5
_LOGINS = {"DATABASE_URL", "REDIS_URL", "NATS_URL"}


async def there_and_back(stage: Stage, seconds: float) -> None:
    """Each time another process starts beside the one that runs, which then stops.

    Sandboxes keep what they were made with, and get their events all the time.
    """
    operator, tenants = stage.operator, stage.tenants
    if operator is None or tenants is None:
        raise ChaosError("there is nothing to change")
    *_, first, second = stage.guilds
    old, ends = next(iter(operator.ids)), await _create(operator)
    await asyncio.sleep(seconds / 6)

    await _replace(stage, tenants.environment)
    await _keeps(operator, old, enforced=False)
    new, turned = await _create(operator), await _create(operator)
    stage.readers |= await tenants.follow(stage.stack, {new: await operator.connect(new)})
    await _keeps(operator, new, enforced=True)
    for guild, name in ((first, old), (second, new)):
        _must(await operator.register(guild, name), f"{name} could not have another server")
    _must(await operator.destroy(ends, []), f"{ends} could not be destroyed")
    await tenants.get_events()
    await asyncio.sleep(seconds / 3)

    await _replace(stage, {**tenants.environment, "SANDBOX_ISOLATION": "convention"})
    for name, enforced in ((old, False), (new, True)):
        await _keeps(operator, name, enforced=enforced)
    said = await operator.ask("rotate", turned)
    _must("New credentials of" in said, f"rotate does not make new logins: {said}")
    plain = await _create(operator)
    await _keeps(operator, plain, enforced=False)
    await tenants.get_events()
    await tenants.log_in()
    await asyncio.sleep(seconds / 3)
    _must(await operator.unregister(second), f"{new} kept its server")
    # What it got goes with it.
    await read_to_the_end(tenants.readers[new])
    tenants.readers[new].stopped = True
    for name in (plain, turned, new):
        _must(await operator.destroy(name, []), f"{name} could not be destroyed")
    await asyncio.sleep(seconds / 6)


async def _create(operator: Operator) -> str:
    """As a person does who is told that nothing was changed, and to try again shortly."""
    for _ in range(_TRIES):
        try:
            name = await operator.create()
        except Unclear as unclear:
            said = str(unclear)
            _must("Nothing was changed. Try again shortly." in said, f"no sandbox was made: {said}")
            await asyncio.sleep(1)
        else:
            operator.reserved.add(name)
            return name
    raise ChaosError(f"no sandbox was made: {said}")


async def _replace(stage: Stage, environment: Mapping[str, str]) -> None:
    before = stage.places[0]
    after = await stage.bots.launch(environment)
    await after.wait_ready()
    await stage.bots.stop(before)
    stage.places[0] = after


async def _keeps(operator: Operator, name: str, *, enforced: bool) -> None:
    """`connect`, `status` and `rotate` say of the sandbox what it was made with."""
    shown = _LOGINS & (await operator.connect(name)).keys()
    _must(shown == (_LOGINS if enforced else set()), f"connect shows {shown} of {name}")
    said = await operator.ask("status", name)
    words = "enforced by the servers" if enforced else "by convention"
    _must(words in said, f"status does not say that {name} is kept apart {words}: {said}")
    if not enforced:
        said = await operator.ask("rotate", name)
        refused = "SANDBOX_013" in said and "made by convention" in said
        _must(refused, f"rotate does not refuse {name}: {said}")


def _must(is_so: bool, otherwise: str) -> None:
    if not is_so:
        raise ChaosError(re.sub(r"://\S+", "://…", otherwise))
