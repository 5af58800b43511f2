"""Turns errors into texts for people: what was wrong, and what to do. No other module does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import errors
from .stored import mebibytes


@dataclass(frozen=True, slots=True)
class ErrorText:
    """`sentence` says what was wrong; `way_out` says what to do, and may be empty."""

    code: str
    sentence: str
    way_out: str

    def __str__(self) -> str:
        return f"{self.sentence} {self.way_out}".strip()


def explain(error: errors.SandboxError) -> ErrorText:
    """Return the text for `error`; the nearest class with its own text decides."""
    for cls in type(error).__mro__:
        writer = _TEXTS.get(cls)
        if writer is not None:
            sentence, way_out = writer(error)
            return ErrorText(error.code, sentence, way_out)
    raise LookupError(f"no text for {type(error).__name__}")


def has_own_text(cls: type[errors.SandboxError]) -> bool:
    """Return whether `cls` or a parent with the same code has a text; for the test of completeness."""
    return any(base in _TEXTS and getattr(base, "code", None) == cls.code for base in cls.__mro__)


def shown(value: str, at_most: int = 80) -> str:
    """Return a caller's text in a form that is safe to show: short, on one line, without formatting."""
    flat = "".join(ch if ch.isprintable() and ch not in "`@" else "?" for ch in value)
    return flat if len(flat) <= at_most else flat[: at_most - 3] + "..."


_LONG = 200
"""The length for reasons with a server's place in them."""
_LONGER = 600
"""The length for texts with subjects, which are long."""


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{shown(name)}`" for name in names)


def _name_taken(error: errors.NameTaken) -> tuple[str, str]:
    if error.own is not None:
        name = shown(error.name)
        return (
            f"You already have a sandbox named `{name}`; it is {error.own}.",
            f"`/sandbox status name:{name}` shows it. Use it, or choose another name.",
        )
    return f"A sandbox named `{shown(error.name)}` already exists.", "Choose another name."


def _owner_limit(error: errors.OwnerLimitReached) -> tuple[str, str]:
    return (
        f"You already have {len(error.names)} sandboxes; the limit is {error.limit}.",
        f"Destroy one of them first: {_names(error.names)}.",
    )


def _guild_limit(error: errors.GuildLimitReached) -> tuple[str, str]:
    return (
        f"A sandbox may have {error.limit} servers at most.",
        "Unregister a server from it first, or use another sandbox.",
    )


def _slots(error: errors.SlotsUsedUp) -> tuple[str, str]:
    where = f" at {shown(error.where)}" if error.where else ""
    return (
        f"The sandboxes' NATS server{where} has room for {error.slots} sandboxes, and all of it is in use.",
        "Destroy a sandbox and wait some seconds, or give the server a configuration with more slots.",
    )


def _storage(error: errors.StorageUsedUp) -> tuple[str, str]:
    if error.of_keys:
        amount = f"{error.used:,} keys in {error.dependency}, and the limit is {error.limit:,}"
    else:
        used, limit = mebibytes(error.used), mebibytes(error.limit)
        amount = f"{used} MiB in {error.dependency}, and the limit is {limit} MiB"
    if not error.sandbox_name:
        return f"All sandboxes together store {amount}.", "Destroy a sandbox, or store less in one."
    name = shown(error.sandbox_name)
    return (
        f"Your sandbox `{name}` is full: it stores {amount}.",
        (
            f"Store less than 90 % of that, or destroy it: `/sandbox destroy name:{name}`. "
            "It is measured every 30 seconds."
        ),
    )


def _guild_mapped(error: errors.GuildAlreadyMapped) -> tuple[str, str]:
    if error.sandbox_name is None:
        return (
            f"Server {error.guild_id} already sends its events to another sandbox.",
            "Somebody with access to that sandbox can unregister it there.",
        )
    name = shown(error.sandbox_name)
    return (
        f"Server {error.guild_id} already sends its events to the sandbox `{name}`.",
        f"Unregister it there first: `/sandbox unregister-guild guild:{error.guild_id}`.",
    )


def _not_found(error: errors.SandboxNotFound) -> tuple[str, str]:
    near = f"Did you mean {_names(error.suggestions)}? " if error.suggestions else ""
    return f"There is no sandbox `{shown(error.reference)}`.", f"{near}`/sandbox list` shows them."


def _schema_creation(error: errors.SchemaCreationFailed) -> tuple[str, str]:
    return (
        f"The schema `{error.schema}` could not be created: {shown(error.reason)}.",
        "Check that the bot's PostgreSQL role may create schemas in its database; nothing was left behind.",
    )


def _cleanup(error: errors.CleanupFailed) -> tuple[str, str]:
    # Some reasons are whole sentences.
    reason = shown(error.reason.rstrip("."))
    return (
        f"Destroying `{shown(error.sandbox_name)}` stopped at “{error.step}”: {reason}.",
        "The bot tries it again automatically; its events already go to production again.",
    )


def _reset_unfinished(error: errors.ResetUnfinished) -> tuple[str, str]:
    name = shown(error.sandbox_name)
    return (
        f"Resetting `{name}` stopped at “{error.step}”: {shown(error.reason.rstrip('.'), _LONG)}.",
        "What it stored may be gone already. Repeat the reset; the bot goes on with one that has begun, too.",
    )


def _still_written(error: errors.StillWritten) -> tuple[str, str]:
    return (
        f"Something still writes the sandbox's {error.what} in {error.dependency}.",
        "Stop the worker that uses the sandbox.",
    )


def _invalid(error: errors.InvalidInput) -> tuple[str, str]:
    value = f" `{shown(error.value)}`" if error.value else ""
    return f"The {error.field}{value} can't be used: {error.problem}.", f"For example: {error.example}."


def _not_named(error: errors.SandboxNotNamed) -> tuple[str, str]:
    if not error.names:
        return "You have no sandbox.", "`/sandbox create` makes one."
    return f"You have {len(error.names)} sandboxes.", f"Say which one: {_names(error.names)}."


def _bot_not_in_guild(error: errors.BotNotInGuild) -> tuple[str, str]:
    return (
        f"The bot is not in the server {shown(error.guild_id)}, so it has no events to route.",
        "Invite the bot there first, or choose a server from the list.",
    )


def _not_running(error: errors.SandboxNotRunning) -> tuple[str, str]:
    return (
        f"The sandbox `{shown(error.sandbox_name)}` is not running; its status is {error.status}.",
        "`/sandbox list` shows the ones that are.",
    )


def _transition(error: errors.TransitionNotAllowed) -> tuple[str, str]:
    return f"A sandbox can't go from {error.current} to {error.target}.", ""


def _not_permitted(error: errors.NotPermitted) -> tuple[str, str]:
    return f"You may not {error.action}.", f"Who may: {error.who_may}."


def _confirmation_needed(error: errors.ConfirmationNeeded) -> tuple[str, str]:
    guild_id = shown(error.guild_id)
    server = f"“{shown(error.guild_name)}” ({guild_id})" if error.guild_name else guild_id
    return (
        f"The server {server} is protected: its live events would leave production.",
        "Confirm it to go on.",
    )


def _not_registered(error: errors.GuildNotRegistered) -> tuple[str, str]:
    if error.sandbox_name:
        name = shown(error.sandbox_name)
        return (
            f"Server {error.guild_id} is not registered with the sandbox `{name}`.",
            f"`/sandbox register-guild name:{name} guild:{error.guild_id}` registers it.",
        )
    return (
        f"Server {error.guild_id} is not registered: its events go to production.",
        "`/sandbox register-guild` registers it.",
    )


_TRY_AGAIN = "Nothing was changed. Try again shortly."


def _unavailable(error: errors.DependencyUnavailable) -> tuple[str, str]:
    return f"{error.dependency} is unavailable ({shown(error.reason, _LONG)}).", _TRY_AGAIN


def _faulty(error: errors.DependencyFaulty) -> tuple[str, str]:
    return f"{error.dependency} {shown(error.reason, _LONG)}.", _TRY_AGAIN


def _not_finished(error: errors.NotFinished) -> tuple[str, str]:
    return (
        f"{error.dependency} has not finished this: {shown(error.reason, _LONG)}.",
        "It may have much to do, or wait for another session's lock. Try again shortly.",
    )


def _rotation_unfinished(error: errors.RotationUnfinished) -> tuple[str, str]:
    return (
        f"{error.dependency} has not taken the new credentials yet ({shown(error.reason, _LONG)}).",
        "The bot goes on with it by itself; until then the old ones may still work there.",
    )


def _sharing_unfinished(error: errors.SharingUnfinished) -> tuple[str, str]:
    return (
        f"{error.dependency} has not taken the changed access yet ({shown(error.reason, _LONG)}).",
        "The bot goes on with it by itself; until then what was taken away may still work there.",
    )


_LOOK = "Look before you repeat it: `/sandbox list` and `/sandbox status` show what is so now."


def _cut_off(error: errors.CutOff) -> tuple[str, str]:
    return explain(error.fault).sentence, f"Whether the change was made is not known. {_LOOK}"


def _outcome_unknown(error: errors.OutcomeUnknown) -> tuple[str, str]:
    return (
        f"{error.dependency} did not say whether the change was made ({shown(error.reason, _LONG)}).",
        _LOOK,
    )


def _login_refused(error: errors.LoginRefused) -> tuple[str, str]:
    where = f"{error.refused} refused at {shown(error.where)} as {shown(error.user)}"
    return (
        f"{error.dependency} is unavailable: {where}: {error.problem}.",
        f"Nothing was changed. The operator of the bot must check {error.setting}.",
    )


def _not_migrated(error: errors.NotMigrated) -> tuple[str, str]:
    return f"{error.dependency} can't be used: {error.reason}.", "`sandboxctl migrate` applies them."


def _stream_unusable(error: errors.StreamUnusable) -> tuple[str, str]:
    where = f" at {shown(error.server)}" if error.server else ""
    sentence = f"{error.dependency}{where} can't be used: {shown(error.reason, _LONGER)}."
    return sentence, shown(error.mend, _LONGER)


def _isolation(error: errors.IsolationImpossible) -> tuple[str, str]:
    where = f" at {shown(error.where)}" if error.where else ""
    return (
        f"{error.dependency}{where} can't keep sandboxes apart: {shown(error.problem, _LONG)}.",
        f"Nothing was changed. {shown(error.mend, _LONGER)}",
    )


def _production_token_outdated(error: errors.ProductionTokenOutdated) -> tuple[str, str]:
    return (
        "The token of production's own bot was made with another SANDBOX_CREDENTIALS_KEY.",
        "`sandboxctl production-token --rotate` makes a new one.",
    )


def _sharing_impossible(error: errors.SharingImpossible) -> tuple[str, str]:
    name = shown(error.sandbox_name)
    return (
        f"`{name}` can't be shared to `use`: it is by convention, so no access could be taken away again.",
        "Share it to `see`, or use a sandbox with enforced isolation.",
    )


def _share_limit(error: errors.ShareLimitReached) -> tuple[str, str]:
    return (
        f"A sandbox can be shared with {error.limit} colleagues at most.",
        "`/sandbox unshare` takes one's access away.",
    )


def _no_credentials(error: errors.NoCredentials) -> tuple[str, str]:
    name = shown(error.sandbox_name)
    if error.outdated:
        return (
            f"The credentials of `{name}` were made with another SANDBOX_CREDENTIALS_KEY.",
            f"`/sandbox rotate name:{name}` makes new ones.",
        )
    return (
        f"The sandbox `{name}` has no credentials of its own: it was made by convention.",
        "A new sandbox gets some where SANDBOX_ISOLATION is `enforced`.",
    )


def _does_not_fit(error: errors.DoesNotFit) -> tuple[str, str]:
    return (
        f"{shown(error.what, _LONG)} can't be used: {shown(error.problem, _LONG)}.",
        shown(error.right, _LONG),
    )


# Each writer takes exactly its class; the type of a dict can't express that.
_TEXTS: dict[type, Callable[[Any], tuple[str, str]]] = {
    errors.NameTaken: _name_taken,
    errors.OwnerLimitReached: _owner_limit,
    errors.GuildLimitReached: _guild_limit,
    errors.SlotsUsedUp: _slots,
    errors.StorageUsedUp: _storage,
    errors.GuildAlreadyMapped: _guild_mapped,
    errors.SandboxNotFound: _not_found,
    errors.SchemaCreationFailed: _schema_creation,
    errors.CleanupFailed: _cleanup,
    errors.ResetUnfinished: _reset_unfinished,
    errors.StillWritten: _still_written,
    errors.InvalidInput: _invalid,
    errors.SandboxNotNamed: _not_named,
    errors.BotNotInGuild: _bot_not_in_guild,
    errors.SandboxNotRunning: _not_running,
    errors.TransitionNotAllowed: _transition,
    errors.NotPermitted: _not_permitted,
    errors.ConfirmationNeeded: _confirmation_needed,
    errors.GuildNotRegistered: _not_registered,
    errors.DependencyUnavailable: _unavailable,
    errors.DependencyFaulty: _faulty,
    errors.NotFinished: _not_finished,
    errors.RotationUnfinished: _rotation_unfinished,
    errors.SharingUnfinished: _sharing_unfinished,
    errors.OutcomeUnknown: _outcome_unknown,
    errors.CutOff: _cut_off,
    errors.LoginRefused: _login_refused,
    errors.NotMigrated: _not_migrated,
    errors.StreamUnusable: _stream_unusable,
    errors.IsolationImpossible: _isolation,
    errors.NoCredentials: _no_credentials,
    errors.SharingImpossible: _sharing_impossible,
    errors.ShareLimitReached: _share_limit,
    errors.ProductionTokenOutdated: _production_token_outdated,
    errors.DoesNotFit: _does_not_fit,
}
