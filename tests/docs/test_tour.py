"""`make run KEEP=1`: what it prints at its end works, and the picture in the README is what it prints."""

from __future__ import annotations

import asyncio
import html
import re
import signal
from pathlib import Path

from tests.docs.markdown import ROOT
from tests.e2e.harness import eventually
from tests.e2e.programs import program

_FIRST, _AFTER_LAST = "3 A developer makes a sandbox", "7 How is it doing?"
_TEXT = re.compile(r'<text [^>]*\bx="([\d.]+)"[^>]*\by="([\d.]+)"[^>]*>(.*?)</text>')
_FRAMES = re.compile(r"[\s─│╭╮╰╯▌]+")
# What differs from run to run: ids, names made of them, moments, counts and durations.
_VARYING = (
    (re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "UUID"),
    (re.compile(r"(?<=sandbox[_.])[0-9a-f]{8}"), "ID"),
    (re.compile(r"\d+ [A-Z][a-z]+ \d{4} \d\d:\d\d"), "MOMENT"),
    (re.compile(r"\d+ (second|minute|hour)s?"), "DURATION"),
    (re.compile(r"\d+([.,]\d+)*"), "N"),
)


def _same_in_every_run(text: str) -> str:
    """The words alone: however lines are broken, boxes drawn and columns filled."""
    flat = " ".join(_FRAMES.sub(" ", text).split())
    for pattern, word in _VARYING:
        flat = pattern.sub(word, flat)
    return flat.replace(" ", "")


def _drawn() -> str:
    """The picture's text, line by line."""
    lines: dict[float, list[tuple[float, str]]] = {}
    for x, y, text in _TEXT.findall((ROOT / "docs" / "tour.svg").read_text(encoding="utf-8")):
        lines.setdefault(float(y), []).append((float(x), html.unescape(text).replace("\xa0", " ")))
    return "\n".join(" ".join(" ".join(text for _, text in sorted(lines[y])).split()) for y in sorted(lines))


def _between(text: str, first: str, after_last: str) -> str:
    start = text.index(first)
    return text[start : text.index(after_last, start)]


async def _shell(script: str, directory: Path) -> str:
    process = await asyncio.create_subprocess_exec(
        *("bash", "-euo", "pipefail", "-c", script),
        cwd=directory,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        printed, _ = await process.communicate()
    assert process.returncode == 0, printed.decode()
    return printed.decode()


async def test_what_stays_up_can_be_used_and_the_picture_is_of_this_tour(tmp_path: Path) -> None:
    async with program(
        *("sandbox_bot", "tour", "--keep"), directory=tmp_path, TMPDIR=str(tmp_path), COLUMNS="100"
    ) as tour:
        await eventually(lambda: "the bot's log" in tour.output or not tour.running)
        tour.look_at_family()
        assert tour.running, tour.output + tour.errors
        kept = tour.output.partition("stays up until")[2]
        shown = dict(re.findall(r"^  (\S.*?) {2,}(\S.*)$", kept, re.MULTILINE))

        in_a_shell = f"{shown['in a shell']}\n"
        await _shell(f"{in_a_shell} sandboxctl create of-the-shell", tmp_path)
        rows = "sandboxctl psql -- -tAc \"SELECT name FROM sandboxes WHERE status = 'running'\""
        assert await _shell(f"{in_a_shell} {rows}", tmp_path) == "of-the-shell\n"
        assert "of-the-shell" in await _shell(shown["be a person"], tmp_path)
        assert '"sent": 100' in await _shell(shown["send events"], tmp_path)
        assert "ready" in await _shell(f"curl -s {shown['ops endpoint'].split()[0]}", tmp_path)
        assert "operation_done" in Path(shown["the bot's log"]).read_text()
        assert "password" not in re.sub(r"its password is in .*", "", tour.output)

        tour.signal(signal.SIGINT)
        assert await tour.exit_code() == 0
    assert list(tmp_path.iterdir()) == []

    printed = _between(tour.output, _FIRST, _AFTER_LAST)
    drawn = _between(_drawn(), _FIRST, "\n…")
    assert _same_in_every_run(drawn) == _same_in_every_run(printed), "draw it anew: docs/record_tour.py"
