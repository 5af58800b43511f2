"""What a person at a terminal sees: colour, the question, and completion of names."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from sandbox_bot.cli._screen import Cell, Facts, Grid, Line, Steps, plain, pretty
from sandbox_bot.cli._words import clean, relative
from sandbox_core.manager import utc_now
from tests.e2e.harness import eventually

from .conftest import ALICE, NOBODY_LISTENS, Shell
from .terminal import on_terminal


async def test_colour_and_the_question(shell: Shell) -> None:
    await shell.ok("create", "on-screen", "--owner", ALICE)
    code, listing = await on_terminal(shell, "list")
    assert code == 0
    assert "\x1b[32mrunning" in listing
    code, kept = await on_terminal(shell, "destroy", "on-screen", answer="n")
    assert code == 1
    assert "every table and row" in kept
    assert "Nothing was changed." in kept
    assert "on-screen" in (await shell.ok("list")).out
    code, refused = await on_terminal(shell, "status", "on-scren")
    assert code == 1
    # The spinner has left its line before the refusal is written there.
    before, _ = refused.split("SANDBOX_004: ")
    assert before.endswith("\x1b[2K")
    code, gone = await on_terminal(shell, "destroy", "on-screen", answer="y")
    assert code == 0
    assert "on-screen is destroyed." in gone
    # A pipe always has the headings as its first line; a person gets a sentence.
    assert (await shell.ok("list")).out == "NAME  ID  OWNER  STATUS  SERVERS  LEVEL  BOTS  ENDS\n"
    code, nothing = await on_terminal(shell, "list")
    assert (code, "There are no sandboxes." in nothing, "NAME" in nothing) == (0, True, False)


async def test_names_are_completed_soon_or_not_at_all(shell: Shell) -> None:
    await shell.ok("create", "completed", "--owner", ALICE)
    asking = {
        "_SANDBOXCTL_COMPLETE": "complete_bash",
        "COMP_WORDS": "sandboxctl status comp",
        "COMP_CWORD": "2",
    }

    async def completed() -> bool:
        found = (await shell.having(**asking)()).out.split()
        assert found in ([], ["completed"])
        return bool(found)

    # A server that takes a second to answer is too late for one key, and there for the next.
    await eventually(completed)
    away = shell.having(**asking, DATABASE_URL=f"postgresql://x:x@{NOBODY_LISTENS}/x")
    for broken in (away, shell.having(**asking, DATABASE_URL=None)):
        silent = await broken()
        assert (silent.out.strip(), silent.err) == ("", "")
    script = await shell.having(_SANDBOXCTL_COMPLETE="source_bash")()
    assert "_SANDBOXCTL_COMPLETE=complete_bash" in script.out
    await shell.ok("destroy", "completed", "--yes")


HOSTILE = "evil\x1b[31m\x07name\u202egnp.[bold]x[/bold]\r\n"


def test_nobodys_name_speaks_to_the_terminal() -> None:
    assert clean(HOSTILE) == "evil?[31m?name?gnp.[bold]x[/bold]??"
    blocks = (Grid(("name",), [(Cell(HOSTILE, "bold"),)]), Facts([("Owner", HOSTILE)]), Line(HOSTILE))
    assert not set(plain(*blocks)) & set("\x1b\x07\r\u202e")
    console = Console(file=io.StringIO(), record=True, force_terminal=True, width=100)
    console.print(pretty(*blocks))
    shown = console.export_text(styles=False)
    assert shown.count("[bold]x[/bold]") == 3
    assert not set(shown) & set("\x07\r\u202e")


def test_what_is_to_be_copied_is_never_wrapped() -> None:
    statement = "GRANT SELECT, INSERT, UPDATE, DELETE ON sandbox_cleanup, gateway_processes TO sandbox_bot;"
    steps = Steps(Cell("PostgreSQL: the role lacks rights.", "red"), "As the tables' owner:", (statement,))
    assert plain(steps).endswith(f"\n    {statement}")
    for width in (40, 80):
        file = io.StringIO()
        Console(file=file, force_terminal=True, width=width).print(pretty(steps), crop=False)
        assert f"\n    {statement}\n" in file.getvalue()


def test_plain_columns_are_aligned_and_never_cut() -> None:
    long = "x" * 300
    text = plain(Grid(("name", "what"), [("日本", "wide"), (long, "long"), ("a", "")]))
    first, second, third, fourth = text.splitlines()
    assert first.startswith("NAME ")
    assert second == "日本" + " " * 298 + "wide"
    assert third == f"{long}  long"
    assert fourth == "a"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "in 0 s"),
        (59, "in 59 s"),
        (-90, "2 min ago"),
        (3600, "in 1 h"),
        (86_399, "in 1 d"),
        (5 * 3600 + 1200, "in 5 h 20 min"),
        (7 * 86_400 - 1, "in 7 d"),
        (-26 * 3600, "1 d 2 h ago"),
    ],
)
def test_distances_in_time(seconds: int, text: str) -> None:
    from datetime import timedelta

    now = utc_now()
    assert relative(now + timedelta(seconds=seconds), now) == text
