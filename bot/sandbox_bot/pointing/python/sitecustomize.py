"""Points the Discord library of a program at the sandbox's endpoint. Python reads this file at its start.

`sandboxctl exec` puts this folder first on `PYTHONPATH`. The program's own files stay as they are: when one
of the libraries below is imported, the addresses in it are replaced. It needs nothing but the standard
library, of any Python 3 from 3.7 on.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
from typing import Any

_API = os.environ.get("DISCORD_API_URL", "")
_GATEWAY = os.environ.get("DISCORD_GATEWAY_URL", "")


def _route(module: Any) -> None:
    # py-cord's, and that of discord.py, nextcord, disnake and interactions.py.
    name = "API_BASE_URL" if hasattr(module.Route, "API_BASE_URL") else "BASE"
    getattr(module.Route, name)
    setattr(module.Route, name, _API)


def _default_gateway(module: Any) -> None:
    # discord.py alone has it; the others ask for the address.
    if hasattr(module.DiscordWebSocket, "DEFAULT_GATEWAY"):
        import yarl  # noqa: PLC0415

        module.DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(_GATEWAY)


def _hikari(module: Any) -> None:
    _ = module.REST_API_URL
    module.REST_API_URL = _API


_CHANGES = {
    "discord.http": _route,
    "discord.gateway": _default_gateway,
    "nextcord.http": _route,
    "disnake.http": _route,
    "interactions.api.http.route": _route,
    "hikari.urls": _hikari,
}


class _Finder:
    """Finds the modules as ever, and changes them right after they have run."""

    def __init__(self) -> None:
        self._finding: set[str] = set()

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Return how to load a module of `_CHANGES`; None for all others."""
        if name not in _CHANGES or name in self._finding:
            return None
        self._finding.add(name)
        try:
            spec = next(filter(None, (_found(finder, name, path, target) for finder in sys.meta_path)), None)
        finally:
            self._finding.discard(name)
        if spec is not None and spec.loader is not None:
            _change_after(spec.loader, name)
        return spec


def _found(finder: Any, name: str, path: Any, target: Any) -> Any:
    find = getattr(finder, "find_spec", None)
    return None if find is None else find(name, path, target)


def _change_after(loader: Any, name: str) -> None:
    run = loader.exec_module

    def exec_module(module: Any) -> None:
        run(module)
        try:
            _CHANGES[name](module)
        except Exception as error:
            # The program may need the library for something else; whoever reads this knows why it fails.
            message = "sandboxctl: this version of %s can't be pointed at the sandbox (%r)\n"
            sys.stderr.write(message % (name.partition(".")[0], error))

    loader.exec_module = exec_module


def _run_the_other() -> None:
    """Run the `sitecustomize` that Python would have found without this one."""
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
    others = [place for place in sys.path if os.path.abspath(place or os.curdir) != here]  # noqa: PTH100
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


if _API and _GATEWAY:
    sys.meta_path.insert(0, _Finder())
_run_the_other()
