"""The simulator's modules import each other in one direction only."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import discord_sim

PACKAGE = Path(discord_sim.__file__).parent


def test_no_module_imports_itself_by_way_of_others() -> None:
    modules = {_name(file): file for file in PACKAGE.rglob("*.py")}
    graph = {name: _imported(file, modules) - {name} for name, file in modules.items()}
    order = list(TopologicalSorter(graph).static_order())
    assert order.index("discord_sim.sim") > order.index("discord_sim.world.world")


def _name(file: Path) -> str:
    return ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def _imported(file: Path, modules: dict[str, Path]) -> set[str]:
    """The modules that a file imports, also those for type checks only; a package's re-exports count too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            below = {f"{node.module}.{alias.name}" for alias in node.names} & modules.keys()
            found |= below or {node.module} & modules.keys()
    return found
