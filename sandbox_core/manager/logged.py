"""The manager with a log line for each change."""

from __future__ import annotations

from sandbox_core.operation_log import logged

from .service import SandboxManager


class LoggedManager(SandboxManager):
    """The same as `SandboxManager`; it logs changes, not reads."""

    create = logged("create")(SandboxManager.create)
    create_trial = logged("create")(SandboxManager.create_trial)
    register_guild = logged("register_guild")(SandboxManager.register_guild)
    unregister_guild = logged("unregister_guild")(SandboxManager.unregister_guild)
    extend = logged("extend")(SandboxManager.extend)
    rotate = logged("rotate")(SandboxManager.rotate)
    set_rest_level = logged("set_rest_level")(SandboxManager.set_rest_level)
    reset = logged("reset")(SandboxManager.reset)
    share = logged("share")(SandboxManager.share)
    unshare = logged("unshare")(SandboxManager.unshare)
    destroy = logged("destroy")(SandboxManager.destroy)
