"""`sandboxctl record` and `recordings`: as a shell has them, while no process of the bot runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .conftest import ALICE, BOB, NOBODY_LISTENS, Shell
from .schemas import check

GUILD_OF_FILE, GUILD = "100000000000000005", "100000000000000006"


def _line(at: float, kind: str, **data: Any) -> dict[str, Any]:
    frame = {"t": kind, "s": 1, "op": 0, "d": {"guild_id": GUILD_OF_FILE, **data}}
    headers = {"Discord-Shard": "0"}
    return {"at": at, "type": kind, "guild_id": GUILD_OF_FILE, "headers": headers, "frame": frame}


ABOUT = {
    "recording": 1,
    "name": "x",
    "began": "2026-01-01T00:00:00.000000Z",
    "ended": None,
    "events": 3,
    "scrubbed": False,
}
LINES = [
    _line(0.5, "MESSAGE_CREATE", content="hé", id="1", channel_id="2"),
    _line(1.0, "TYPING_START", user_id="3"),
    {**_line(2.25, "MESSAGE_CREATE"), "frame_base64": "eyB9", "guild_id": None},
]
del LINES[2]["frame"]


def write(path: Path, *lines: dict[str, Any]) -> None:
    text = "".join(json.dumps(each, separators=(",", ":"), ensure_ascii=False) + "\n" for each in lines)
    path.write_text(text, encoding="utf-8")


async def names(shell: Shell) -> list[str]:
    answer = (await shell.ok("recordings", "list", "--json")).json
    check("recordings list", answer)
    return sorted(each["name"] for each in answer["recordings"])


async def test_a_file_becomes_a_recording_and_a_file_again(shell: Shell) -> None:
    write(shell.home / "in.jsonl", ABOUT, *LINES)
    said = (await shell.ok("recordings", "import", "in.jsonl", "filed", "--owner", ALICE)).out
    assert said == "Imported 3 events as filed.\n"
    assert await names(shell) == ["filed"]
    listed = (await shell.ok("recordings", "list")).out.splitlines()
    assert listed[0].split() == ["NAME", "OF", "OWNER", "STATUS", "BEGAN", "EVENTS", "SIZE", "MISSED"]
    assert listed[1].startswith(f"filed  a file  {ALICE}  ended")
    shown = (await shell.ok("recordings", "show", "filed")).out
    assert "MESSAGE_CREATE  2\n" in shown
    answer = (await shell.ok("recordings", "show", "filed", "--json")).json
    check("recordings show", answer)
    assert answer["seconds"] == 1.75
    assert answer["types"] == {"MESSAGE_CREATE": 2, "TYPING_START": 1}

    out = (await shell.ok("recordings", "export", "filed")).out.splitlines()
    assert json.loads(out[0]) == {**ABOUT, "name": "filed", "ended": json.loads(out[0])["ended"]}
    assert [json.loads(line) for line in out[1:]] == LINES
    await shell.ok("recordings", "export", "filed", "--file", "out.jsonl")
    assert (shell.home / "out.jsonl").read_text(encoding="utf-8").splitlines() == out
    scrubbed = (await shell.ok("recordings", "export", "filed", "--scrub")).out
    assert len(scrubbed.splitlines()) == 4
    assert "hé" not in scrubbed
    assert GUILD_OF_FILE not in scrubbed
    again = await shell.script("sandboxctl recordings export filed | sandboxctl recordings import - copy")
    assert "Say whose it is to be" in again.err
    piped = f"sandboxctl recordings export filed | sandboxctl recordings import - copy --owner {BOB} --json"
    answer = (await shell.script(piped)).json
    check("recordings import", answer)
    assert (answer["recording"]["events"], answer["recording"]["owner"]) == (3, BOB)

    answer = (await shell.ok("recordings", "delete", "copy", "--yes", "--json")).json
    assert answer == {"deleted": "copy"}
    await shell.ok("recordings", "delete", "filed", "--yes")
    assert (await shell.ok("recordings", "list")).out == "There are no recordings.\n"


async def test_a_recording_is_sent_into_a_sandbox(shell: Shell) -> None:
    write(shell.home / "in.jsonl", ABOUT, *LINES[:2])
    await shell.ok("recordings", "import", "in.jsonl", "played", "--owner", ALICE)
    await shell.ok("create", "plays", "--owner", ALICE)
    await shell.ok("register-guild", "plays", GUILD, "--unchecked", "--yes")
    words = ("events", "replay", "--recording", "played", "--to", "plays")
    said = (await shell.ok(*words, "--speed", "max")).out
    assert said == "Replayed 2 events into plays: numbers 1 to 2.\n"
    answer = (await shell.ok(*words, "--type", "TYPING_START", "--fresh", "--json")).json
    check("events replay", answer)
    assert [each["from"] for each in answer["replayed"]] == ["2"]
    events = (await shell.ok("events", "plays", "--json")).out.splitlines()
    first = json.loads(events[0])
    assert first["frame"] == {**LINES[0]["frame"], "d": {**LINES[0]["frame"]["d"], "guild_id": GUILD}}
    assert (first["guild_id"], first["origin"]) == (GUILD, "replayed")
    for wrong, code, text in (
        (("events", "replay", "--recording", "played"), 2, "Say where to"),
        (("events", "replay", "plays", "--recording", "played", "--to", "plays"), 2, "leave NAME"),
        (("events", "replay", "--recording", "played", "--to", "plays", "--since", "5m"), 2, "leave NAME"),
        (("events", "replay", "--recording", "none", "--to", "plays"), 1, "SANDBOX_015: The recording none"),
        (("events", "replay", "--recording", "played", "--to", "nobody"), 1, "SANDBOX_004"),
        ((*words, "--owner", BOB), 1, "SANDBOX_010"),
    ):
        ended = await shell(*wrong)
        assert (ended.code, ended.out) == (code, ""), (wrong, ended)
        assert text in ended.err, (wrong, ended.err)
    await shell.ok("destroy", "plays", "--yes")
    # It outlives the sandbox.
    assert await names(shell) == ["played"]
    await shell.ok("recordings", "delete", "played", "--yes")


async def test_a_recording_begins_and_ends(shell: Shell) -> None:
    await shell.ok("create", "kept", "--owner", ALICE)
    said = (await shell.ok("record", "start", "kept", "life")).out.splitlines()
    assert said == [
        "Recording kept as life.",
        "No process of the bot has taken it yet: one has to run within five minutes.",
    ]
    answer = (await shell.ok("record", "stop", "kept", "life", "--json")).json
    check("record", answer)
    assert answer["recording"]["status"] == "stopping"
    for words, code, text in (
        (
            ("record", "start", "kept", "life"),
            1,
            "SANDBOX_015: The recording life",
        ),
        (("record", "start", "kept", "No"), 1, "SANDBOX_007"),
        (("record", "start", "nobody", "new"), 1, "SANDBOX_004"),
        (("record", "start", "kept", "new", "--owner", BOB), 1, "SANDBOX_010: You may not record"),
        (("record", "stop", "kept", "none"), 1, "SANDBOX_015: The recording none"),
        (("record", "stop", "kept", "life", "--owner", BOB), 1, "SANDBOX_010"),
        (("record", "go", "kept", "life"), 2, "go"),
        (("recordings", "show", "none"), 1, "SANDBOX_015"),
        (("recordings", "show", "life", "--owner", BOB), 1, "SANDBOX_010: You may not read the recording"),
        (("recordings", "export", "life", "--owner", BOB), 1, "SANDBOX_010: You may not export"),
        (("recordings", "export", "life", "--file", "none/file"), 2, "can't be written"),
        (("recordings", "delete", "life", "--owner", BOB, "--yes"), 1, "SANDBOX_010: You may not delete"),
        (("recordings", "delete", "life"), 2, "--yes"),
        (("recordings", "import", "none.jsonl", "new", "--owner", ALICE), 2, "can't be read"),
    ):
        ended = await shell(*words)
        assert (ended.code, ended.out) == (code, ""), (words, ended)
        assert text in ended.err, (words, ended.err)
    (shell.home / "wrong.jsonl").write_text(json.dumps(ABOUT) + "\n{}\n")
    ended = await shell("recordings", "import", "wrong.jsonl", "new", "--owner", ALICE)
    assert (ended.code, ended.out) == (1, "")
    assert "SANDBOX_015: Line 2 of the file" in ended.err
    away = shell.having(NATS_URL=f"nats://{NOBODY_LISTENS}")
    ended = await away("record", "start", "kept", "new")
    assert (ended.code, ended.out) == (3, "")
    assert "SANDBOX_012" in ended.err
    assert await names(shell) == ["life"]
    await shell.ok("recordings", "delete", "life", "--yes")
    await shell.ok("destroy", "kept", "--yes")
