"""Writes an environment as text that a shell or a worker reads back exactly, for any value."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

_PLAIN = re.compile(r"[A-Za-z0-9_.,:/@%+-]*\Z")


def as_exports(variables: Mapping[str, str]) -> str:
    """`export NAME=value` lines for `eval` in any POSIX shell."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())


def as_fish(variables: Mapping[str, str]) -> str:
    """`set -gx NAME 'value'` lines; in single quotes fish has only the escapes \\\\ and \\'."""
    return "".join(f"set -gx {name} {_single_quoted(value)}\n" for name, value in variables.items())


def as_dotenv(variables: Mapping[str, str]) -> str:
    """`NAME=value` lines, quoted only if needed: not every reader of `.env` files supports quotes."""
    return "".join(
        f"{name}={value if _PLAIN.match(value) else _single_quoted(value)}\n"
        for name, value in variables.items()
    )


def _single_quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
