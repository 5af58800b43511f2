"""Every command in the documents is run: on real servers, with the bot connected to a local Discord.

`sh` blocks are scripts and must succeed; in `console` blocks what follows a `$` line is what it prints, with
`…` for anything; `discord` blocks are slash commands that a person types, `sql` blocks statements. Everything
else has its reason in `NOT_RUN`. A page's blocks run in their order; the runbook's sections are drills, each
with its fault. Commands within sentences are those of test_inline.py.
"""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Awaitable, Callable, Mapping

import pytest

from tests.docs.conftest import GUILD, OTHER_GUILD, Place
from tests.docs.markdown import ROOT, Block, blocks, name_of, pages
from tests.e2e.harness import eventually, get

_MAKE = "test_make.py does"
_ENFORCED = "of servers that keep sandboxes apart: tests/isolation does that"
_DOCKER = "needs Docker and images from a registry; test_compose_lines.py reads it"

INVITATION = (
    "https://discord.com/oauth2/authorize"
    "?client_id=APPLICATION_ID&scope=bot+applications.commands&permissions=1024"
)

NOT_RUN: Mapping[tuple[str, str], str] = {
    (
        "README.md",
        "make run    # one sandbox's life, played offline on real servers, in a few seconds",
    ): _MAKE,
    ("README.md", "DISCORD_TOKEN=… DISCORD_DEV_GUILD_IDS=… make run"): _MAKE,
    ("README.md", "export DISCORD_TOKEN=…"): "tests/gateway_endpoint/test_processes.py has such a shell",
    ("docs/guide.md", "make run"): _MAKE,
    (
        "CONTRIBUTING.md",
        "make setup    # the environment .venv, with everything that tests and checks need",
    ): _MAKE,
    (
        "CONTRIBUTING.md",
        ".venv/bin/python -m pytest tests/unit/test_subjects.py              # one file",
    ): "parts of what `make test`, `make chaos` and `make bench` run",
    ("docs/guide.md", "DISCORD_TOKEN=… DISCORD_DEV_GUILD_IDS=… make run"): _MAKE,
    ("docs/guide.md", "docker compose up --build --detach"): _DOCKER,
    (
        "docs/guide.md",
        "sandboxctl exec welcome-flow -- python docs/worker_example.py",
    ): "runs until it is stopped: tests/e2e/test_worker_example.py does that",
    (
        "docs/guide.md",
        "sandboxctl exec --production -- python mybot.py",
    ): "a bot of the reader's: tests/production_endpoint/test_programs.py runs some",
    (
        "docs/guide.md",
        "SANDBOX_GATEWAY_HOST=0.0.0.0 SANDBOX_GATEWAY_PORT=443 sandboxctl gateway --tls-self-signed tls",
    ): "tests/gateway_endpoint/test_tls.py does, and maps the names itself",
    (
        "docs/cli.md",
        "sandboxctl connect welcome-flow --format fish | source",
    ): "test_inline.py does, where fish is installed",
    ("docs/runbook.md", "alias sandboxctl='docker compose run --rm --no-deps bot sandboxctl'"): _DOCKER,
    ("docs/runbook.md", "docker compose stop bot"): _DOCKER,
    (
        "docs/runbook.md",
        "sandboxctl gateway --reuse-port >> gateway.log 2>&1 &",
    ): "tests/gateway_endpoint/test_processes.py does, with a bot that goes on",
    ("docs/runbook.md", "sandboxctl doctor --isolation"): _ENFORCED,
    ("docs/security.md", "sandboxctl doctor --isolation"): _ENFORCED,
    ("docs/runbook.md", "docker compose up --build --detach"): _DOCKER,
    ("README.md", INVITATION): "an address, and no command",
    ("docs/guide.md", INVITATION): "an address, and no command",
    (
        "docs/guide.md",
        "DATABASE_URL=postgresql://sandbox:POSTGRES_PASSWORD@127.0.0.1:5432/sandbox",
    ): "addresses: tests/deploy/test_containers.py compares them with the compose file",
    ("docs/guide.md", "{"): "a stream's configuration: tests/event_path/test_foreign_streams.py makes it",
    ("docs/guide.md", "services:"): "a file: tests/deploy/test_containers.py has Compose read it",
}
"""Page and first line of each block that is not run, and why."""

_NO_COMMANDS = {"mermaid", "python"}
"""Diagrams, and code that test_pages.py looks for in the examples, which have tests of their own."""

ELSEWHERE = {"docs/servers.md": "on servers of its own: tests/e2e/test_least_privilege.py applies it"}
"""Pages whose blocks another test runs, and why."""

RUNBOOK = "docs/runbook.md"
STORIES = ("README.md", "docs/cli.md", "docs/guide.md")
"""Pages whose blocks build on each other."""


def _all() -> list[Block]:
    return [block for page in pages() for block in blocks(page)]


def _runs(block: Block) -> bool:
    if block.language in _NO_COMMANDS or block.page in ELSEWHERE:
        return False
    return (block.page, block.first_line) not in NOT_RUN


def test_every_block_is_run_or_has_its_reason() -> None:
    for block in _all():
        if _runs(block):
            assert block.language in {"sh", "sql", "console", "discord"}, (
                f"{block} is neither run nor explained"
            )
            assert block.page in {*STORIES, RUNBOOK}, f"{block} is on a page that is not run"
    stale = set(NOT_RUN) - {(block.page, block.first_line) for block in _all()}
    assert not stale


async def run(place: Place, block: Block) -> None:
    """Run one block."""
    match block.language:
        case "sh":
            await place.shell(block.text)
        case "sql":
            # The database and its role are called otherwise here.
            await place.execute(block.text.replace("DATABASE bot TO bot", place.database_and_role))
        case "discord":
            for line in block.text.splitlines():
                await place.slash(line)
        case "console":
            for command, shown in re.findall(r"^\$ (.+)\n((?:(?!\$ ).*\n)*)", block.text, re.MULTILINE):
                printed = await place.shell(command)
                pattern = ".*".join(re.escape(part) for part in shown.rstrip("\n").split("…"))
                assert re.fullmatch(pattern, printed.rstrip("\n"), re.DOTALL), f"{command}\n{printed}"


@pytest.mark.parametrize("page", STORIES)
async def test_a_page_from_top_to_bottom(place: Place, page: str) -> None:
    if page == "docs/cli.md":
        await place.sandbox("welcome-flow", GUILD)
    for block in blocks(ROOT / page):
        if _runs(block):
            await run(place, block)
    for sandbox in await place.core.manager.list():
        await place.shell(f"sandboxctl destroy {sandbox.name} --yes")


Step = Callable[[Place], Awaitable[None]]


async def _two_more(place: Place) -> None:
    await place.sandbox("left-behind")
    await place.sandbox("another")


async def _nothing_lives(place: Place) -> None:
    assert await place.core.manager.list() == []


async def _stuck(place: Place) -> None:
    stuck = await place.sandbox("stuck")
    # In one statement: the bot looks for unfinished removals all the time.
    await place.execute(
        "WITH stuck AS (UPDATE sandboxes SET status = 'destroying' WHERE id = $1 RETURNING id) "
        "INSERT INTO sandbox_cleanup (sandbox_id, attempts, failed_step, reason, next_attempt_at) "
        "SELECT id, 7, 'PostgreSQL', 'not done within 60 seconds', now() + interval '10 minutes' FROM stuck",
        stuck.id,
    )


async def _nothing_is_stuck(place: Place) -> None:
    assert [sandbox.name for sandbox in await place.core.manager.list()] == ["welcome-flow"]
    assert "stuck" not in await place.shell("sandboxctl list --status destroying")


async def _orphans(place: Place) -> None:
    gone, damaged = await place.sandbox("gone"), await place.sandbox("damaged")
    await place.core.manager.destroy(place.operator, "gone")
    await place.execute(f'CREATE SCHEMA "{gone.schema_name}"')
    await place.execute('CREATE SCHEMA "sandbox_0badcafe"')
    await place.execute('CREATE SCHEMA "sandbox_prod_backup"')
    role = f'"{damaged.schema_name}"'
    await place.execute_as_superuser(f"DROP SCHEMA {role} CASCADE; DROP OWNED BY {role}; DROP ROLE {role}")
    found = await place.shell("sandboxctl orphans")
    for name in (gone.schema_name, "sandbox_0badcafe", "damaged"):
        assert name in found


async def _only_ours_went(place: Place) -> None:
    assert await place.shell("sandboxctl orphans") == "There are no orphans.\n"
    await place.execute('DROP SCHEMA "sandbox_prod_backup"')


async def _two_sandboxes(place: Place) -> None:
    await place.sandbox("try-login", OTHER_GUILD)


async def _all_to_production_and_stopped(place: Place) -> None:
    sandboxes = await place.core.manager.list()
    assert {sandbox.name for sandbox in sandboxes} == {"welcome-flow", "try-login"}
    assert [guild for sandbox in sandboxes for guild in sandbox.guild_ids] == []
    assert place.bot is not None
    assert await place.bot.exit_code() == 0
    assert "stopped_with_events_unacknowledged" not in place.bot.errors
    assert place.sim.sessions[-1].last_client_close not in {None, 1000, 1001}


async def _look_at_the_sessions(place: Place) -> None:
    place.identifies = len(place.sim.identifies)


async def _the_new_process_has_taken_over(place: Place) -> None:
    assert place.bot is not None
    assert await place.bot.exit_code() == 0

    async def is_ready() -> bool:
        # While it takes the shard over, it is not.
        return (await get(f"http://127.0.0.1:{place.next_port}", "/readyz"))[0] == 200

    await eventually(is_ready)
    assert len(place.sim.identifies) == place.identifies, "a session was begun anew"
    await place.end_successor()


async def _stopped(place: Place) -> None:
    assert place.bot is not None
    place.bot.signal(signal.SIGTERM)
    assert await place.bot.exit_code() == 0
    sandbox = await place.core.manager.get("welcome-flow")
    await place.execute_as_superuser(
        f"INSERT INTO \"{sandbox.schema_name}\".communities (guild_id, name) VALUES ($1, 'kept')", GUILD
    )


async def _as_it_was(place: Place) -> None:
    sandbox = await place.core.manager.get("welcome-flow")
    assert sandbox.guild_ids == (GUILD,)
    psql = 'sandboxctl psql --sandbox welcome-flow -- -tAc "SELECT name FROM communities"'
    assert await place.shell(psql) == "kept\n"


async def _an_endpoint(place: Place) -> None:
    await place.start_endpoint()


async def _the_endpoint_answers(place: Place) -> None:
    status, body = await get(f"http://127.0.0.1:{place.endpoint_port}", "/readyz")
    assert (status, json.loads(body)) == (200, {"status": "ready"})
    await place.end_endpoint()


DRILLS: Mapping[str, tuple[Step | None, Step | None]] = {
    "RB-SB-001": (_two_more, _nothing_lives),
    "RB-SB-002": (_stuck, _nothing_is_stuck),
    "RB-SB-003": (_orphans, _only_ours_went),
    **dict.fromkeys(
        ("RB-SB-011", "RB-SB-012", "RB-SB-013", "RB-SB-014"), (_an_endpoint, _the_endpoint_answers)
    ),
    "Emergency": (_two_sandboxes, _all_to_production_and_stopped),
    "Backup": (_stopped, _as_it_was),
    "Routine": (_look_at_the_sessions, _the_new_process_has_taken_over),
}
"""By the first word of a section: the fault that it is about, and what has to be so afterwards."""

_SECTIONS = list(dict.fromkeys(block.section for block in blocks(ROOT / RUNBOOK) if _runs(block)))


@pytest.mark.parametrize("section", _SECTIONS)
async def test_a_section_of_the_runbook(place: Place, section: str) -> None:
    await place.start_bot()
    await place.sandbox("welcome-flow", GUILD)
    before, afterwards = DRILLS.get(section.split(maxsplit=1)[0], (None, None))
    if before is not None:
        await before(place)
    for block in blocks(ROOT / RUNBOOK):
        if block.section == section and _runs(block):
            await run(place, block)
    if afterwards is not None:
        await afterwards(place)


def test_every_drill_is_held() -> None:
    assert set(DRILLS) <= {section.split(maxsplit=1)[0] for section in _SECTIONS}
    assert name_of(ROOT / RUNBOOK) == RUNBOOK
