"""Options and arguments that several commands share."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sandbox_core.subjects import is_guild_id
from sandbox_gateway.calls import KEPT

from ._completion import suggest_names, suggest_templates


def user_id(value: str | None) -> str | None:
    """Check a Discord user's id."""
    # Ids of users and servers have the same form: both are snowflakes.
    if value is not None and not is_guild_id(value):
        raise typer.BadParameter("a Discord user id is 17 to 20 digits, such as 613425648685547541")
    return value


def _acting_for(text: str) -> Any:
    return typer.Option("--owner", envvar="SANDBOX_OWNER", metavar="USER_ID", callback=user_id, help=text)


_NAME_HELP = "The sandbox's name, id or short id."

Name = Annotated[str, typer.Argument(metavar="NAME", help=_NAME_HELP, autocompletion=suggest_names)]
OptionalName = Annotated[
    str | None,
    typer.Argument(
        metavar="[NAME]", help=f"{_NAME_HELP} By default --owner's only one.", autocompletion=suggest_names
    ),
]
GuildId = Annotated[str, typer.Argument(metavar="SERVER_ID", help="The Discord server's id.")]
Owner = Annotated[
    str | None,
    _acting_for("The Discord user to act for, with that user's rights. Without it: the operator's."),
]
NewOwner = Annotated[
    str | None,
    _acting_for("Whose it becomes: a Discord user, with that user's rights and limits. Required."),
]
OwnerFilter = Annotated[
    str | None,
    typer.Option(
        "--owner",
        metavar="USER_ID",
        callback=user_id,
        help="Only this Discord user's, and those shared with them.",
    ),
]
NewTemplate = Annotated[
    str | None,
    typer.Option(
        "--template",
        metavar="TEMPLATE",
        help="What it begins with: a file of SANDBOX_TEMPLATES_DIR, or `none`. By default `default.sql`.",
        autocompletion=suggest_templates,
    ),
]
OtherTemplate = Annotated[
    str | None,
    typer.Option(
        "--template",
        metavar="TEMPLATE",
        help="Another template from now on, or `none`. By default the one it began with.",
        autocompletion=suggest_templates,
    ),
]
NameUnlessProduction = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help=_NAME_HELP, autocompletion=suggest_names)
]
Production = Annotated[
    bool,
    typer.Option("--production", help="Production in place of a sandbox; for the bot's owner."),
]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on with each as it comes, until Ctrl-C.")]
Newest = Annotated[int, typer.Option("--limit", "-n", min=1, max=KEPT, help="The newest so many.")]
Json = Annotated[bool, typer.Option("--json", help="Write only JSON to standard output.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
