"""Whether an address to resume at is the gateway's own: the bot's token is sent there."""

from __future__ import annotations

import yarl

_DISCORDS = ".discord.gg"


def is_of_gateway(url: yarl.URL, gateway: yarl.URL) -> bool:
    """True for the gateway's host, for its neighbours in one domain, and for Discord's own.

    Without encryption only where the gateway itself has none.
    """
    if url.scheme not in {"wss", gateway.scheme} or url.user is not None:
        return False
    host, own = (url.host or "").lower(), (gateway.host or "").lower()
    if host == own or host.endswith(_DISCORDS):
        return bool(host)
    domain = own.partition(".")[2]
    # Three labels at least: two of them may be a domain under which anybody has names.
    is_name = domain.count(".") >= 1 and not domain.replace(".", "").isdigit()
    return is_name and host.partition(".")[2] == domain
