"""Doctor, where the sandboxes' stream has a NATS server of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import nats
import pytest

from sandbox_bot.doctor.nats_permissions import publications, subscriptions
from sandbox_core.dependencies import SANDBOX_NATS
from sandbox_core.nats.sandbox_streams import SandboxStreams
from sandbox_core.nats.streams import StreamLimits
from sandbox_core.subjects import DEFAULT_NAMES
from tests.doctor.conftest import Doctor
from tests.doctor.servers import nats_server


def _least(only: str) -> dict[str, Any]:
    """A user who may do what the bot needs there, and nothing else."""
    permissions = {
        "publish": {"allow": sorted({need.pattern for need in publications(DEFAULT_NAMES, only)})},
        "subscribe": {"allow": sorted({need.pattern for need in subscriptions(DEFAULT_NAMES, only)})},
    }
    return {"users": [{"user": "bot", "password": "secret-of-it", "permissions": permissions}]}


async def test_each_server_is_asked_for_its_own_stream(doctor: Doctor, tmp_path: Path) -> None:
    async with (
        nats_server(tmp_path / "one", authorization=_least("EVENTS")) as production,
        nats_server(tmp_path / "two", authorization=_least("SANDBOX")) as sandboxes,
    ):
        urls = {
            "nats_url": production.url.replace("//", "//bot:secret-of-it@"),
            "sandbox_nats_url": sandboxes.url.replace("//", "//bot:secret-of-it@"),
        }
        found = await doctor(SANDBOX_NATS, **urls)
        found.well()
        client = await nats.connect(urls["sandbox_nats_url"])
        await SandboxStreams(client.jetstream(), StreamLimits()).make(uuid4())
        await client.close()
        found = await doctor("NATS", **urls)
        found.well()
        assert ("EVENTS" in found.text, "stream of a sandbox" in found.text) == (True, False)
        found = await doctor(SANDBOX_NATS, **urls)
        found.well()
        assert ("EVENTS" in found.text, "stream of a sandbox" in found.text) == (False, True)
        assert all(each.where == sandboxes.url.split("//")[1] for each in found.findings)


@pytest.mark.parametrize("subject", ["$JS.API.STREAM.MSG.GET.*", "$JS.API.STREAM.NAMES", "sandbox.>"])
async def test_what_the_sandboxes_server_forbids_is_named(
    doctor: Doctor, tmp_path: Path, subject: str
) -> None:
    least = _least("SANDBOX")
    least["users"][0]["permissions"]["publish"]["allow"].remove(subject)
    async with nats_server(tmp_path, authorization=least) as server:
        url = server.url.replace("//", "//bot:secret-of-it@")
        finding = (await doctor(SANDBOX_NATS, sandbox_nats_url=url)).only()
        assert finding.detail == f"the user bot may not publish to {subject}"


async def test_a_sandboxes_server_that_is_away_is_named_by_its_setting(doctor: Doctor) -> None:
    finding = (await doctor(SANDBOX_NATS, sandbox_nats_url="nats://127.0.0.1:1")).only()
    assert (finding.where, "check SANDBOX_NATS_URL" in finding.mend) == ("127.0.0.1:1", True)
