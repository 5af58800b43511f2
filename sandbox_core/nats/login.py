"""Why a NATS server does not let this process in, and TLS where the address asks for it."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from typing import Any

import nats.errors
import nats.js.errors
from nats.aio.client import Client, Srv
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from sandbox_core.addresses import NatsAddress
from sandbox_core.errors import DependencyUnavailable, LoginRefused
from sandbox_core.stream_writes import write_at_once

from .errors import DEPENDENCY, note

_NO_TLS = "nats: tls:// is asked for and the server does not speak it"
# What the server says, in small letters, and first match decides.
# https://docs.nats.io/reference/reference-protocols/nats-protocol#ok-err
_WORDS: tuple[tuple[str, str], ...] = (
    ("authorization violation", "the user's name, the password or the token is wrong or missing"),
    ("user authentication expired", "the login has expired"),
    ("user authentication revoked", "the login was revoked"),
    ("authentication timeout", "the server waited for the login in vain"),
    ("account authentication expired", "the login has expired"),
    ("tls required", "the server takes TLS only: the address begins with tls://"),
    (_NO_TLS, "the address begins with tls://, and the server has no TLS"),
)
_DENIED = re.compile(r"permissions violation for (publish|subscription) to \"([^\"]*)\"", re.IGNORECASE)


Judge = Callable[[Exception, str], DependencyUnavailable | None]
"""Says what a request's error means, by the subject that was asked; None when it means something else."""


class TlsClient(Client):
    """nats-py's client, which goes on in clear where `tls://` was asked for and the server offers none.

    With `judge` the errors of requests know what was wrong where; their classes stay.
    """

    def __init__(self, judge: Judge | None = None) -> None:
        super().__init__()
        self._judge = judge

    async def request(self, subject: str, *args: Any, **options: Any) -> Msg:
        """Do the same as in nats-py."""
        try:
            return await super().request(subject, *args, **options)
        except (nats.errors.Error, OSError) as error:
            self.judge(error, subject)
            raise

    async def flush(self, timeout: int = 10) -> None:
        """Return when the server has all that was sent before. Raises nats-py's `TimeoutError`.

        nats-py 2.16 sends the PING of its `flush` before a subscription or a message that is still pending.
        """
        if self.is_connected and self._pending and self._transport is not None:
            self._transport.writelines(self._pending[:])
            self._pending = []
            self._pending_data_size = 0
        await super().flush(timeout)

    def jetstream(self, **options: Any) -> JetStreamContext:
        """Return a context whose errors know where they come from."""
        return _JetStream(self, **options)

    def judge(self, error: Exception, subject: str) -> None:
        """Note what the error means."""
        if self._judge is not None and (instead := self._judge(error, subject)) is not None:
            note(error, instead)

    async def _connect_to_server(self, s: Srv) -> None:
        await super()._connect_to_server(s)
        transport: Any = self._transport
        write_at_once(transport._io_writer)

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        server = self._current_server
        if initial_connection and server is not None and server.uri.scheme == "tls":
            if not info.get("tls_required") and not info.get("tls_available"):
                # Before anything of the login is sent.
                raise nats.errors.Error(_NO_TLS)
            info["tls_required"] = True
        await super()._process_info(info, initial_connection=initial_connection)


class _JetStream(JetStreamContext):
    def __init__(self, client: TlsClient, **options: Any) -> None:
        super().__init__(client, **options)
        self._judged_by = client

    async def _api_request(self, req_subject: str, *args: Any, **options: Any) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = await super()._api_request(req_subject, *args, **options)
        except nats.js.errors.APIError as error:
            self._judged_by.judge(error, req_subject)
            raise
        return answer


def refusal(error: Exception, address: NatsAddress) -> LoginRefused | None:
    """What to raise when `error` says that a server refused the login or a permission, else None."""
    refused = "login"
    if isinstance(error, ssl.SSLCertVerificationError):
        problem = "the server's TLS certificate can't be verified (SSL_CERT_FILE names who signs it)"
    elif isinstance(error, ssl.SSLError):
        problem = "TLS can't be agreed on"
    elif isinstance(error, nats.errors.AuthorizationError):
        problem = _WORDS[0][1]
    else:
        said = str(error).lower()
        denied = _DENIED.search(str(error))
        if denied is not None:
            refused = "permission"
            # The client gives the server's words in small letters.
            verb = "publish" if denied[1].lower().startswith("publish") else "subscribe"
            problem = (
                f"its user may not {verb} to {denied[2]} (in small letters; `sandboxctl doctor` says more)"
            )
        else:
            problem = next((words for known, words in _WORDS if known in said), "")
    if not problem:
        return None
    return LoginRefused(
        DEPENDENCY,
        where=address.where,
        user=address.who,
        problem=problem,
        setting=address.variable,
        refused=refused,
    )
