"""The names of logins that colleagues have to a sandbox beside its own: those with 8 hex digits more.

So whatever a server still has of a colleague is found by the sandbox's name.
"""

from __future__ import annotations

import re
import secrets

from .subjects import sandbox_of_user

ROLES = "^sandbox_[0-9a-f]{8}(_[0-9a-f]{8})?$"
"""The roles of sandboxes and their guests in PostgreSQL, as a regular expression of both languages."""
ROLE_LENGTH = len("sandbox_01234567")
"""How much of such a role's name is the sandbox's."""
_GUEST = re.compile(r"(sandbox-.{36})-([0-9a-f]{8})\Z")


def new_login() -> str:
    """Return a name for a colleague's logins; none comes twice, so that no password does."""
    return secrets.token_hex(4)


def guest_role(role: str, login: str) -> str:
    """The colleague's role in PostgreSQL, beside the sandbox's `role`; the same one without a login."""
    return f"{role}_{login}" if login else role


def guest_user(user: str, login: str) -> str:
    """The colleague's user in Redis and NATS, beside the sandbox's `user`; the same one without a login."""
    return f"{user}-{login}" if login else user


def read_user(user: str) -> tuple[str, str] | None:
    """Return the sandbox's id, and the colleague's login or ""; None when the name is none of ours."""
    match = _GUEST.match(user)
    name, login = (user, "") if match is None else match.groups()
    sandbox_id = sandbox_of_user(name)
    return None if sandbox_id is None else (sandbox_id, login)
