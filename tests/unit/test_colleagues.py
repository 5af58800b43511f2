"""What a colleague may do with a shared sandbox: the table, and whom one can share with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from pydantic import SecretStr

from sandbox_core.client_endpoint import ClientEndpoint
from sandbox_core.credentials import CredentialsKey
from sandbox_core.errors import (
    InvalidInput,
    NotPermitted,
    SandboxError,
    SandboxNotRunning,
    ShareLimitReached,
    SharingImpossible,
)
from sandbox_core.guests import guest_role, guest_user, new_login, read_user
from sandbox_core.manager import Colleague, ManagerLimits, rules
from sandbox_core.models import Actor, Sandbox, SandboxStatus, Share, ShareAccess, shares_text
from sandbox_core.subjects import sandbox_user
from sandbox_gateway import tokens

KEY = CredentialsKey(SecretStr("k" * 32))
ALICE, ROOT = Actor("200000000000000001"), Actor("900000000000000001", is_bot_owner=True)
LOOKS, WORKS, STRANGER = (Actor(f"20000000000000000{number}") for number in (2, 3, 4))
NOW = datetime(2026, 3, 1, tzinfo=UTC)
LIMITS = ManagerLimits(timedelta(hours=1), timedelta(hours=2), 3, max_shares=3)
MINE = Sandbox(
    id=uuid4(),
    name="mine",
    owner=ALICE.id,
    status=SandboxStatus.RUNNING,
    schema_name="sandbox_01234567",
    created_at=NOW,
    expires_at=NOW + timedelta(hours=1),
    generation=1,
    shares=(Share(LOOKS.id, ShareAccess.SEE), Share(WORKS.id, ShareAccess.USE, "89abcdef", "Wu")),
)
SEEING = ["read the events of", "read the calls of", "read the sessions of", "read dead letters of"]
USING = [
    *("connect to", "make events in", "replay events into", "reset"),
    *("replay dead letters of", "drop dead letters of"),
]
OWNING = [
    *("destroy", "extend", "record", "share", "rotate the credentials of", "set the level of"),
    *("register servers with", "unregister servers from", "manage", "whatever comes later"),
]


def may(actor: Actor, verb: str, sandbox: Sandbox = MINE) -> bool:
    try:
        rules.may_change(actor, sandbox, verb)
    except NotPermitted:
        return False
    return True


@pytest.mark.parametrize("verb", [*SEEING, *USING, *OWNING])
def test_the_table(verb: str) -> None:
    assert may(ALICE, verb)
    assert may(ROOT, verb)
    assert may(LOOKS, verb) == (verb in SEEING)
    assert may(WORKS, verb) == (verb in SEEING or verb in USING)
    assert not may(STRANGER, verb)
    alone = MINE.evolve(shares=())
    assert not any(may(each, verb, alone) for each in (LOOKS, WORKS))


def test_a_refusal_says_who_may() -> None:
    for verb, words in (
        ("reset", "to `use`"),
        ("read the events of", "shared with"),
        ("destroy", "its owner"),
    ):
        with pytest.raises(NotPermitted) as refused:
            rules.may_change(STRANGER, MINE, verb)
        assert words in refused.value.who_may


@pytest.mark.parametrize(
    ("actor", "colleague", "access", "changes", "error"),
    [
        (LOOKS, Colleague(STRANGER.id), ShareAccess.SEE, {}, NotPermitted),
        (WORKS, Colleague(STRANGER.id), ShareAccess.USE, {}, NotPermitted),
        (ALICE, Colleague(STRANGER.id, is_bot=True), ShareAccess.SEE, {}, InvalidInput),
        (ALICE, Colleague(STRANGER.id, exists=False), ShareAccess.SEE, {}, InvalidInput),
        (ALICE, Colleague(ALICE.id), ShareAccess.SEE, {}, InvalidInput),
        (ROOT, Colleague(ALICE.id), ShareAccess.USE, {}, InvalidInput),
        (ALICE, Colleague(STRANGER.id), ShareAccess.USE, {"generation": 0}, SharingImpossible),
        (ALICE, Colleague(STRANGER.id), ShareAccess.SEE, {"expires_at": NOW}, SandboxNotRunning),
        (ALICE, Colleague(STRANGER.id), ShareAccess.SEE, {"shares": MINE.shares * 2}, ShareLimitReached),
    ],
)
def test_whom_it_can_not_be_shared_with(
    actor: Actor,
    colleague: Colleague,
    access: ShareAccess,
    changes: dict[str, object],
    error: type[SandboxError],
) -> None:
    with pytest.raises(error):
        rules.may_share(actor, MINE.evolve(**changes), colleague, access, limits=LIMITS, now=NOW)


def test_whom_it_can_be_shared_with() -> None:
    rules.may_share(ALICE, MINE, Colleague(STRANGER.id), ShareAccess.USE, limits=LIMITS, now=NOW)
    rules.may_share(ROOT, MINE, Colleague(STRANGER.id), ShareAccess.SEE, limits=LIMITS, now=NOW)
    # Another access for a colleague is no colleague more.
    full = MINE.evolve(shares=MINE.shares * 2)
    rules.may_share(ALICE, full, Colleague(LOOKS.id), ShareAccess.USE, limits=LIMITS, now=NOW)
    plain = MINE.evolve(generation=0)
    rules.may_share(ALICE, plain, Colleague(STRANGER.id), ShareAccess.SEE, limits=LIMITS, now=NOW)
    assert MINE.guests == ("89abcdef",)
    assert shares_text(MINE) == f"{LOOKS.id} (see), Wu (use)"


def test_names_of_logins_are_read_back() -> None:
    login = new_login()
    assert guest_role("sandbox_01234567", login) == f"sandbox_01234567_{login}"
    user = sandbox_user(MINE.id)
    assert read_user(guest_user(user, login)) == (str(MINE.id), login)
    assert read_user(guest_user(user, "")) == (str(MINE.id), "")
    for other in (
        "",
        "sandbox-",
        "bot",
        f"{user}-",
        f"{user}-xyz",
        f"{user}-{login}0",
        f"{user}-{login}-{login}",
    ):
        assert read_user(other) is None


def test_a_guests_token_is_of_one_sharing() -> None:
    endpoint = ClientEndpoint("http://x:1", "123456789012345678", KEY)
    mine = MINE.evolve(key_id=KEY.fingerprint)
    token = tokens.read(endpoint.token(mine, "89abcdef"))
    own = tokens.read(endpoint.token(mine))
    assert token is not None
    assert own is not None
    assert (token.guest, own.guest) == ("89abcdef", "")
    assert token.is_of(mine, KEY)
    assert own.is_of(mine, KEY)
    # Taken away, rotated, or the same secret under another name.
    assert not token.is_of(mine.evolve(shares=()), KEY)
    assert not token.is_of(mine.evolve(generation=2), KEY)
    assert own.is_of(mine.evolve(shares=()), KEY)
    assert not tokens.PresentedToken(token.short_id, "", token.secret).is_of(mine, KEY)
    assert not tokens.PresentedToken(token.short_id, "89abcdef", own.secret).is_of(mine, KEY)
