"""`sandboxctl gateway --tls-self-signed FOLDER`: bots that find the endpoint under Discord's own names."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from tests.compat.conftest import require
from tests.compat.libraries import IN_CI, Library
from tests.compat.place import said_by
from tests.e2e.harness import eventually, free_port
from tests.e2e.programs import command, program

from .calls import names
from .front import environment_of
from .stage import Stage, until

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")


class Hosts(AbstractResolver):
    """Every name is this machine, as a container's extra hosts say."""

    async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_INET) -> list[ResolveResult]:
        found = ResolveResult(hostname=host, host="127.0.0.1", port=port, family=family, proto=0, flags=0)
        return [found]

    async def close(self) -> None:
        """Nothing is open."""


async def answers(http: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with http.get(url) as answer:
            return answer.status == 200
    except aiohttp.ClientSSLError:
        raise
    except aiohttp.ClientConnectorError:
        return False


async def test_discords_names_with_a_certificate_of_our_own(stage: Stage, tmp_path: Path) -> None:
    mine = await stage.sandbox("mine", stage.guilds[0])
    port, folder = free_port(), tmp_path / "tls"
    settings = environment_of(stage.settings) | {"SANDBOX_GATEWAY_PORT": str(port)}
    words = ("sandbox_bot", "gateway", "--tls-self-signed", str(folder))
    for file in ("bundle.pem", "authority.pem"):
        async with program(*words, directory=tmp_path, **settings) as running:
            await eventually(lambda file=file: exists(folder / file))
            made = (folder / "endpoint.pem").read_bytes()
            assert not list(folder.glob("*authority.key*"))
            assert (folder / "endpoint.key").stat().st_mode & 0o777 == 0o600
            trust = ssl.create_default_context(cafile=str(folder / file))
            connector = aiohttp.TCPConnector(resolver=Hosts(), ssl=trust)
            async with aiohttp.ClientSession(connector=connector) as http:
                await eventually(lambda http=http: answers(http, f"https://discord.com:{port}/readyz"))
                headers = {"Authorization": f"Bot {stage.token(mine)}"}
                url = f"https://discord.com:{port}/api/v10/gateway/bot"
                async with http.get(url, headers=headers) as answer:
                    assert (await answer.json())["url"] == "wss://discord.com/"
                async with http.ws_connect(f"wss://gateway.discord.gg:{port}/?v=10&encoding=json") as ws:
                    assert (await ws.receive_json())["op"] == 10
                with pytest.raises(aiohttp.ClientConnectorCertificateError):
                    await http.get(f"https://example.com:{port}/")
            running.signal(signal.SIGTERM)
            assert await running.exit_code() == 0
            # It stays while it lasts: containers have it.
            assert (folder / "endpoint.pem").read_bytes() == made


def may_map_names() -> bool:
    """Whether this machine lets us do to one program what a container's extra hosts do."""
    unshare = shutil.which("unshare")
    if unshare is None or os.geteuid() != 0:
        return False
    try:
        socket.create_server(("127.0.0.1", 443)).close()
    except OSError:
        return False
    return subprocess.run([unshare, "-m", "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("library", IN_CI, ids=lambda library: library.name)
async def test_a_program_that_nothing_points_anywhere(stage: Stage, tmp_path: Path, library: Library) -> None:
    start = require(library)
    if not may_map_names():
        pytest.skip("needs the right to map names for one program, and port 443")
    guild, foreign = stage.guilds[:2]
    mine = await stage.sandbox("mine", guild)
    alice = stage.sim.add_user("alice")
    guild.add_member(alice)
    folder, hosts = tmp_path / "tls", tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost discord.com gateway.discord.gg\n")
    settings = environment_of(stage.settings) | {"SANDBOX_GATEWAY_PORT": "443"}
    words = ("sandbox_bot", "gateway", "--tls-self-signed", str(folder))
    async with program(*words, directory=tmp_path, **settings) as running:
        await eventually(lambda: exists(folder / "bundle.pem"))
        await eventually(lambda: listens(443))
        variables = {
            "DISCORD_TOKEN": stage.token(mine),
            "SSL_CERT_FILE": str(folder / "bundle.pem"),
            "NODE_EXTRA_CA_CERTS": str(folder / "authority.pem"),
            **library.variables,
        }
        script = f"mount --bind {hosts} /etc/hosts && exec {shlex.join(start)}"
        async with command("unshare", "-m", "sh", "-c", script, directory=tmp_path, **variables) as bot:
            await until(lambda: said_by(bot) or not bot.running, within=40)
            assert said_by(bot) == [["ready", str(guild.id)]], bot.errors
            await until(lambda: "echo" in names(stage.sim, guild))
            answer = await stage.sim.slash(alice, guild.default_channel, "echo", text="this")
            assert answer.content == "echo this"
            stage.sim.message(guild, content=f"elsewhere {foreign.default_channel.id}")
            await until(lambda: len(said_by(bot)) > 1)
            assert said_by(bot)[1:] == [["refused", "403", "50001"]]
        assert "Traceback" not in running.errors


async def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


async def exists(path: Path) -> bool:
    return path.exists()


async def test_without_openssl_it_says_so(stage: Stage, tmp_path: Path) -> None:
    settings = environment_of(stage.settings) | {"PATH": str(tmp_path)}
    words = ("sandbox_bot", "gateway", "--tls-self-signed", str(tmp_path / "tls"))
    async with program(*words, directory=tmp_path, **settings) as running:
        assert await running.exit_code() == 2
        assert running.errors == "There is no command `openssl`, which makes the certificate.\n"
