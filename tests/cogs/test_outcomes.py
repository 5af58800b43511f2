"""How commands end is counted by command and outcome, and how long they took."""

from __future__ import annotations

from typing import Any

import discord
import pytest
from discord import app_commands

from sandbox_cogs.sandbox import _outcome
from sandbox_core.errors import (
    CleanupFailed,
    DependencyUnavailable,
    NameTaken,
    SandboxError,
    SchemaCreationFailed,
)

from .conftest import DEV_GUILD, Scene


def counted(scene: Scene) -> dict[tuple[str, str], float]:
    """Every count above zero, by command and outcome."""
    (family,) = scene.core.metrics.commands.collect()
    return {
        (sample.labels["command"], sample.labels["outcome"]): sample.value
        for sample in family.samples
        if sample.name == "sandbox_commands_total" and sample.value
    }


def answered(scene: Scene) -> float:
    """How many answers' durations were observed."""
    (family,) = scene.core.metrics.command_seconds.collect()
    return next(sample.value for sample in family.samples if sample.name.endswith("_count"))


async def test_each_end_of_a_command_is_counted(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    await scene.alice.slash(scene.channel, "sandbox create", name="mine")
    await scene.alice.slash(scene.channel, "sandbox create", name="mine")
    asked = await scene.alice.slash(scene.channel, "sandbox status", name="mine")
    assert asked.response is not None
    await scene.alice.click(asked.response, label="Refresh")
    assert counted(scene) == {
        ("create", "done"): 1,
        ("create", "refused"): 1,
        ("status", "done"): 1,
        ("button", "done"): 1,
    }

    async def away(*_: object, **__: object) -> None:
        raise DependencyUnavailable("PostgreSQL", "connection refused")

    async def fault(*_: object, **__: object) -> None:
        raise RuntimeError("nobody thought of this")

    for failure, outcome in ((away, "unavailable"), (fault, "failed")):
        monkeypatch.setattr(scene.core.manager, "health", failure)
        await scene.alice.slash(scene.channel, "sandbox status", name="mine")
        assert counted(scene)["status", outcome] == 1
    assert sum(counted(scene).values()) == answered(scene) == 6


async def test_every_command_has_a_series_from_the_start(scene: Scene) -> None:
    tree: app_commands.CommandTree[Any] = scene.env.bot.tree  # type: ignore[attr-defined]
    names = {
        command.name
        for command in tree.walk_commands(guild=discord.Object(DEV_GUILD))
        if isinstance(command, app_commands.Command)
    }
    (family,) = scene.core.metrics.commands.collect()
    assert {sample.labels["command"] for sample in family.samples} == names | {"button"}
    assert {sample.value for sample in family.samples if sample.name.endswith("_total")} == {0}


@pytest.mark.parametrize(
    ("cause", "outcome"),
    [
        (NameTaken("mine"), "refused"),
        (DependencyUnavailable("Redis", "no answer"), "unavailable"),
        (SchemaCreationFailed("sandbox_0a1b2c3d", "no space left on device"), "failed"),
        (CleanupFailed("mine", "Redis", "no answer"), "failed"),
        (KeyError("x"), "failed"),
    ],
)
def test_whose_fault_it_is(cause: SandboxError, outcome: str) -> None:
    assert _outcome.outcome_of(cause) == outcome
