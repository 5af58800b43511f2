"""`share` and `unshare` as real processes, with a Discord over HTTP that knows people."""

from __future__ import annotations

from .conftest import ALICE, BOB, GUILD, Shell
from .schemas import check
from .test_guilds import Scene, scene

__all__ = ["scene"]


async def test_shared_and_taken_back(scene: Scene) -> None:
    as_alice, as_bob = (scene.shell.having(SANDBOX_OWNER=each) for each in (ALICE, BOB))
    done = (await as_alice.ok("share", "diverted", BOB, "--json")).json
    check("share", done)
    assert (done["user_id"], done["access"], done["already"]) == (BOB, "see", False)
    assert done["sandbox"]["shared_with"] == [{"user_id": BOB, "name": "bob", "access": "see"}]
    assert "bob may already see diverted." in (await as_alice.ok("share", "diverted", BOB, "--see")).out

    # It counts as his where his are listed, with whose it is.
    listed = (await as_bob.ok("list", "--owner", BOB, "--json")).json
    check("list", listed)
    assert [(each["name"], each["owner"]) for each in listed["sandboxes"]] == [("diverted", ALICE)]
    headings, row = (await as_bob.ok("list")).out.splitlines()
    assert headings.split()[-3:] == ["ENDS", "SHARED", "WITH"]
    assert row.endswith("bob (see)")
    status = await as_bob.ok("status")
    assert "bob (see)" in status.out
    await as_bob.ok("events", "diverted")
    for command in (
        ("connect", "diverted"),
        ("exec", "diverted", "--", "true"),
        ("events", "emit", "diverted", "TYPING_START"),
        ("psql", "--sandbox", "diverted"),
        ("extend", "diverted", "1h"),
        ("destroy", "diverted", "--yes"),
        ("share", "diverted", GUILD, "--unchecked"),
    ):
        refused = await as_bob(*command)
        assert refused.code in {1, 2}, command
        assert refused.err.startswith("SANDBOX_010: ") or "only for the operator" in refused.err

    left = (await as_alice.ok("unshare", "diverted", BOB, "--json")).json
    check("share", left)
    assert (left["access"], left["sandbox"]["shared_with"]) == (None, [])
    assert (await as_bob("events", "diverted")).err.startswith("SANDBOX_010: ")
    entries = (await scene.operator.ok("audit", "diverted", "--json")).json["entries"]
    assert [each["event"] for each in entries][-2:] == ["sandbox_shared", "sandbox_unshared"]


async def test_who_is_refused(scene: Scene, shell: Shell) -> None:
    robot = scene.sim.world.add_user("robot", bot=True)
    as_alice = scene.shell.having(SANDBOX_OWNER=ALICE)
    for user, why in ((str(robot.id), "it is a bot"), (GUILD, "knows nobody"), (ALICE, "is theirs")):
        refused = await as_alice("share", "diverted", user)
        assert refused.code == 2 or refused.err.startswith("SANDBOX_007: ")
        assert why in refused.err
    assert (await as_alice("share", "diverted", "bob")).code == 2
    assert (await as_alice("share", "diverted", BOB, "--see", "--use")).code == 2
    use = await as_alice("share", "diverted", BOB, "--use")
    assert use.err.startswith("SANDBOX_013: ")
    # Without a token Discord can't be asked.
    unknown = await shell("share", "diverted", BOB)
    assert (unknown.code, "DISCORD_TOKEN is not set" in unknown.err) == (2, True)
    await shell.ok("share", "diverted", BOB, "--unchecked")
    await shell.ok("unshare", "diverted", BOB)
    gone = await shell("unshare", "diverted", BOB)
    assert gone.err.startswith("SANDBOX_007: ")
