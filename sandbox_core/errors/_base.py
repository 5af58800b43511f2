"""What every error with a code is."""

from __future__ import annotations

from typing import ClassVar


class SandboxError(Exception):
    """Base of every error with a code.

    A subclass sets `code`; its attributes are the facts, and `error_text.explain` writes the text.
    """

    code: ClassVar[str]

    def __str__(self) -> str:
        facts = ", ".join(str(fact) for fact in self.args)
        return f"{self.code} {type(self).__name__}({facts})"
