"""The proof that an operator runs: two throw-away sandboxes, every attack, and nothing left of them."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest

from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.bootstrap import Core, NatsUse, open_core
from sandbox_core.cleanup import Notices
from sandbox_core.isolation import Report, Verdict, prove, verdict_text
from sandbox_core.isolation.attacks import Attack, CameBack, judge
from sandbox_core.models import Actor, SandboxStatus
from sandbox_core.settings import Settings

from .conftest import LOGINS, settings_of, trial_core

OPERATOR = Actor("cli:root", is_bot_owner=True)


async def nothing_is_left(core: Core) -> None:
    """No trace in any store."""
    assert await core.manager.list() == []
    for namespace in core.namespaces:
        assert await namespace.list_ids() == set(), namespace.store
    assert (await core.cleanup.find_orphaned_resources()).orphans == ()


async def test_everything_is_denied_and_nothing_is_left(core: Core, enforced: Settings) -> None:
    # Nobody's limit counts the two.
    async with trial_core(enforced.model_copy(update={"sandbox_max_per_owner": 1})) as trial:
        report = await prove(trial, OPERATOR)
    assert report.failed == []
    assert report.left == report.away == ()
    assert report.proven
    assert report.tried == report.denied >= 350
    assert report.count(Verdict.POSSIBLE) >= 20
    assert [section.count(Verdict.DENIED) > 15 for section in report.sections] == [True] * 4
    assert verdict_text(report).startswith(f"Isolated: All {report.denied} attacks were denied")
    await nothing_is_left(core)


async def test_what_they_are_can_be_seen(core: Core, enforced: Settings) -> None:
    seen: list[tuple[str, str, str, timedelta]] = []

    async def look(point: str) -> None:
        if point == "isolation:made":
            seen.extend(
                (each.name, each.owner, each.owner_name, each.expires_at - each.created_at)
                for each in await core.manager.list()
            )

    async with trial_core(enforced) as trial:
        await prove(trial, OPERATOR, faults=look)
    assert sorted(name.rsplit("-", 1)[1] for name, *_ in seen) == ["attacker", "neighbour"]
    for name, owner, shown, life in seen:
        assert name.startswith("isolation-trial-")
        assert (owner, shown, life) == ("doctor", "isolation trial", timedelta(minutes=2))
        entries = await core.manager.audit(name)
        assert {entry.actor for entry in entries} == {"cli:root for doctor"}
        assert entries[-1].event_type.value == "sandbox_destroyed"
    # Nobody gets a notice of them: not by their removal, and their owner is nobody that could.
    leads = [timedelta(seconds=90), timedelta(hours=1)]
    names = [each.sandbox.name async for each in Notices(core.pool, leads=leads).take()]
    # Other tests' sandboxes have been on the same servers, trials among them.
    assert not {name for name, *_ in seen} & set(names)


async def test_no_secret_is_in_the_report(enforced: Settings) -> None:
    passwords: set[str] = set()

    async with trial_core(enforced) as trial:

        async def look(_point: str) -> None:
            for each in await trial.manager.list():
                given = trial.manager.credentials(each)
                passwords.add(given["DISCORD_TOKEN"].rsplit(".", 1)[1])
                passwords.update(given[name].split(":")[2].split("@")[0] for name in LOGINS)

        report = await prove(trial, OPERATOR, faults=look)
    assert len(passwords) == 8
    assert all(len(password) > 30 for password in passwords)
    assert not any(password in repr(report) for password in passwords)


async def test_by_convention_it_says_that_nothing_is_enforced(core: Core, closed: EmbeddedServers) -> None:
    async with trial_core(settings_of(closed, sandbox_isolation="convention")) as trial:
        report = await prove(trial, OPERATOR)
    assert report == Report(enforced=False)
    assert not report.proven
    assert verdict_text(report) == (
        "Nothing is enforced: Sandboxes keep apart by convention (SANDBOX_ISOLATION), and nothing was tried."
    )


async def test_a_server_that_is_away_is_named_and_nothing_is_made(
    core: Core, closed: EmbeddedServers, enforced: Settings
) -> None:
    await closed.tenant_valkey.kill()
    try:
        async with trial_core(enforced) as trial:
            report = await prove(trial, OPERATOR)
    finally:
        await closed.tenant_valkey.start()
    where = f"127.0.0.1:{closed.tenant_valkey.port}"
    assert [(each.title, each.where) for each in report.away] == [("Redis (sandboxes)", where)]
    assert verdict_text(report) == f"Not proven: Redis (sandboxes) at {where} did not answer."
    assert not report.proven
    await nothing_is_left(core)


async def test_without_a_bot_it_lets_its_own_workers_in(enforced: Settings) -> None:
    """No other process answers the sandboxes' NATS server here."""
    async with open_core(enforced, follow_routes=False, use_nats=NatsUse.SANDBOXES) as core:
        report = await prove(core, OPERATOR)
    away = [each for each in report.away if each.title == "NATS (sandboxes)"]
    assert [each.tried for each in away] == [()]
    assert not report.proven
    async with trial_core(enforced) as trial:
        assert (await prove(trial, OPERATOR)).proven


async def test_several_at_once(core: Core, enforced: Settings) -> None:
    async with trial_core(enforced) as trial:
        reports = await asyncio.gather(*(prove(trial, OPERATOR) for _ in range(3)))
    assert [report.failed for report in reports] == [[], [], []]
    assert [report.proven for report in reports] == [True] * 3
    await nothing_is_left(core)


async def test_sandboxes_are_made_and_removed_at_the_same_time(core: Core) -> None:
    """All of them change the rights on the sandboxes' database, which is one row of the catalogue."""
    owners = [Actor(f"20000000000000000{number}") for number in range(8)]
    made = await asyncio.gather(*(core.manager.create(owner) for owner in owners))
    assert {each.sandbox.status for each in made} == {SandboxStatus.RUNNING}
    await asyncio.gather(*(core.manager.destroy(OPERATOR, each.sandbox.name) for each in made))
    await nothing_is_left(core)


@pytest.mark.parametrize(
    ("attack", "came", "verdict"),
    [
        (Attack("x", (), denied=("42501",)), CameBack(("42501",)), Verdict.DENIED),
        (Attack("x", (), denied=("42501", "3D000")), CameBack(("3D000",)), Verdict.DENIED),
        (Attack("x", (), denied=("42501",)), CameBack(("42601",), "a wrong word"), Verdict.FAILED),
        (Attack("x", (), denied=("42501",)), CameBack(said="it did it"), Verdict.FAILED),
        (Attack("x", (), nothing=True), CameBack(), Verdict.DENIED),
        (Attack("x", (), nothing=True), CameBack(("42501",)), Verdict.DENIED),
        (Attack("x", (), nothing=True), CameBack(said="a list of 1", told=True), Verdict.FAILED),
        (Attack("x", (), possible="so it is"), CameBack(said="it did it", told=True), Verdict.POSSIBLE),
        (Attack("x", (), possible="so it is"), CameBack(("42501",)), Verdict.DENIED),
    ],
)
def test_what_an_attack_comes_to(attack: Attack, came: CameBack, verdict: Verdict) -> None:
    assert judge("group", attack, came).verdict is verdict
    assert json.dumps(verdict) == f'"{verdict.value}"'
