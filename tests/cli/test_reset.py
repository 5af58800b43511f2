"""`create --template` and `reset`, from a shell and from a terminal."""

from __future__ import annotations

import json
from pathlib import Path

import asyncpg
import pytest

from .conftest import ALICE, BOB, Shell
from .schemas import check
from .terminal import on_terminal

SEED = "INSERT INTO public.communities (guild_id, name) VALUES ('100000000000000009', 'seed');\n"


@pytest.fixture
def shop(shell: Shell, tmp_path: Path) -> Shell:
    """A shell with a directory of templates."""
    (tmp_path / "shop.sql").write_text(SEED)
    (tmp_path / "broken.sql").write_text(f"{SEED}\nSELEC 1;\n")
    return shell.having(SANDBOX_TEMPLATES_DIR=str(tmp_path))


async def _names(database: asyncpg.Connection, sandbox: dict[str, str]) -> list[str]:
    rows = await database.fetch(f"SELECT name FROM {sandbox['schema']}.communities ORDER BY 1")
    return [row["name"] for row in rows]


async def test_a_sandbox_begins_with_a_template_and_again(shop: Shell, database: asyncpg.Connection) -> None:
    made = (await shop.ok("create", "box", "--owner", ALICE, "--template", "shop", "--json")).json
    check("create", made)
    sandbox = made["sandbox"]
    assert sandbox["template"] == "shop"
    assert await _names(database, sandbox) == ["seed"]
    await database.execute(
        f"INSERT INTO {sandbox['schema']}.communities (guild_id, name) VALUES ('100000000000000001', 'x')"
    )
    shown = (await shop.ok("status", "box")).out
    assert "Template:       shop" in shown

    done = (await shop.ok("reset", "box", "--yes", "--json")).json
    check("reset", done)
    assert done["sandbox"]["resetting"] is False
    assert await _names(database, sandbox) == ["seed"]
    assert (await shop.ok("reset", "box", "--yes", "--template", "none")).out == "box is empty again.\n"
    assert await _names(database, sandbox) == []
    assert (await shop.ok("status", "box", "--json")).json["sandbox"]["template"] is None
    again = await shop.ok("reset", "box", "--yes", "--template", "shop", "--owner", ALICE)
    assert again.out == "box is empty again with the template shop.\n"
    events = (await shop.ok("audit", "box", "--json")).json["entries"]
    resets = [each["details"] for each in events if each["event"] == "sandbox_reset"]
    assert resets == [{"template": "shop"}, {}, {"template": "shop"}]
    await shop.ok("destroy", "box", "--yes")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("create", "new", "--owner", ALICE, "--template", "../x"), "that is no name of one"),
        (("create", "new", "--owner", ALICE, "--template", "nothing"), "There is broken and shop."),
        (("create", "new", "--owner", ALICE, "--template", "broken"), "The template broken.sql, line 3,"),
        (("reset", "kept", "--yes", "--template", "broken"), "The template broken.sql, line 3,"),
        (("reset", "kept", "--yes", "--owner", BOB), "SANDBOX_010"),
        (("reset", "no-such-one", "--yes"), "SANDBOX_004"),
    ],
)
async def test_what_is_refused_changes_nothing(
    shop: Shell, database: asyncpg.Connection, words: tuple[str, ...], says: str
) -> None:
    sandbox = (await shop.ok("create", "kept", "--owner", ALICE, "--template", "shop", "--json")).json[
        "sandbox"
    ]
    refused = await shop(*words)
    assert (refused.code, refused.out) == (1, "")
    assert says in refused.err
    assert await _names(database, sandbox) == ["seed"]
    listed = (await shop.ok("list", "--json")).json["sandboxes"]
    assert [each["name"] for each in listed] == ["kept"]
    await shop.ok("destroy", "kept", "--yes")


async def test_without_a_directory_there_are_none(shell: Shell) -> None:
    refused = await shell("create", "new", "--owner", ALICE, "--template", "shop")
    assert refused.code == 1
    assert "SANDBOX_TEMPLATES_DIR" in refused.err
    wrong = await shell.having(SANDBOX_TEMPLATES_DIR="/nowhere/at/all")("list")
    assert wrong.code == 2
    assert "SANDBOX_TEMPLATES_DIR" in wrong.err


async def test_it_asks_first(shop: Shell) -> None:
    await shop.ok("create", "asked", "--owner", ALICE, "--template", "shop")
    code, kept = await on_terminal(shop, "reset", "asked", answer="n")
    assert code == 1
    assert "every table and row in the schema" in kept
    assert "It begins anew with the template shop." in kept
    assert "Nothing was changed." in kept
    code, done = await on_terminal(shop, "reset", "asked", answer="y")
    assert code == 0
    assert "asked is empty again with the template shop." in done
    unasked = await shop("reset", "asked")
    assert unasked.code == 2
    assert "--yes" in unasked.err
    await shop.ok("destroy", "asked", "--yes")


async def test_templates_are_completed(shop: Shell) -> None:
    asking = {
        "_SANDBOXCTL_COMPLETE": "complete_bash",
        "COMP_WORDS": "sandboxctl create --template ",
        "COMP_CWORD": "3",
    }
    assert (await shop.having(**asking)()).out.split() == ["broken", "shop", "none"]


async def test_an_unfinished_reset_is_shown(shop: Shell, database: asyncpg.Connection) -> None:
    await shop.ok("create", "half", "--owner", ALICE)
    await database.execute("UPDATE sandboxes SET resetting = 'rest' WHERE name = 'half'")
    assert "A reset of it has begun and not ended" in (await shop.ok("status", "half")).out
    assert json.loads((await shop.ok("status", "half", "--json")).out)["sandbox"]["resetting"] is True
    await shop.ok("reset", "half", "--yes")
    assert "A reset of it" not in (await shop.ok("status", "half")).out
    await shop.ok("destroy", "half", "--yes")
