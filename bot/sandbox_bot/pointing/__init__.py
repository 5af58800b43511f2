"""Points ordinary bots at the endpoint without a change in their code: by files that are read before it."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

_HERE = Path(__file__).parent
PYTHON_FOLDER = _HERE / "python"
NODE_FILE = _HERE / "discord_js.cjs"

_ANSWERS_WITHIN = 2.0
_PYTHON = re.compile(r"(python|pypy)[0-9.]*(\.exe)?\Z")
_OPTIONS_WITH_VALUE = frozenset({"-W", "-X", "--check-hash-based-pycs"})
_NOT_READING = re.compile(r"-[a-zA-Z]*[EIS]")
_POINTED_BY_ITSELF = {
    "bun": "Bun reads no NODE_OPTIONS",
    "deno": "Deno reads no NODE_OPTIONS",
    "java": "Java reads no file of sandboxctl's",
    "dotnet": ".NET reads no file of sandboxctl's",
    "go": "Go reads no file of sandboxctl's",
    "cargo": "a Rust program reads no file of sandboxctl's",
}
_HANDS_OVER_NOTHING = frozenset({"docker", "podman", "sudo", "ssh"})


def variables(present: Mapping[str, str], separator: str = ":") -> dict[str, str]:
    """Return the variables that have Python and Node read the files, beside what is in them."""
    python, node = present.get("PYTHONPATH", ""), present.get("NODE_OPTIONS", "")
    return {
        "PYTHONPATH": separator.join(filter(None, [str(PYTHON_FOLDER), python])),
        # Node splits it at spaces, but not within quotes.
        "NODE_OPTIONS": " ".join(filter(None, [node, f'--require "{NODE_FILE}"'])),
    }


def warnings(command: Sequence[str], api_url: str, guild_ids: str) -> Iterator[str]:
    """Yield what will not work, as far as it can be seen before the program starts."""
    program = Path(command[0]).name.lower()
    if _PYTHON.match(program) and (option := _ignoring(command[1:])):
        yield (
            f"With {option} Python does not read what points a library at the sandbox; "
            "start it without, or have the bot read DISCORD_API_URL and DISCORD_GATEWAY_URL."
        )
    elif (why := _POINTED_BY_ITSELF.get(program.removesuffix(".exe"))) is not None:
        yield f"{why}: the bot itself has to read DISCORD_API_URL and DISCORD_GATEWAY_URL."
    elif program.removesuffix(".exe") in _HANDS_OVER_NOTHING:
        yield (
            f"{program} does not hand this environment over by itself: the bot needs DISCORD_TOKEN there, "
            "and has to read DISCORD_API_URL and DISCORD_GATEWAY_URL."
        )
    if not _answers(api_url):
        place = urlsplit(api_url).netloc
        yield f"Nothing listens at {place}: a bot can't connect before `sandboxctl gateway` runs there."
    if not guild_ids:
        yield "The sandbox has no server yet: a bot sees none until one is registered."


def _ignoring(arguments: Sequence[str]) -> str:
    """Return the option of Python's with which it reads no `sitecustomize`, or nothing of its variables."""
    value = False
    for argument in arguments:
        if value:
            value = False
        elif not argument.startswith("-") or argument in {"-", "-c", "-m"}:
            return ""
        elif argument in _OPTIONS_WITH_VALUE:
            value = True
        elif not argument.startswith(("--", "-W", "-X", "-c", "-m")) and _NOT_READING.match(argument):
            return argument
    return ""


def _answers(url: str) -> bool:
    address = urlsplit(url)
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        with socket.create_connection((address.hostname or "", port), timeout=_ANSWERS_WITHIN):
            return True
    except OSError:
        return False
