"""How text and bytes become each other: nothing that a program or a server has is refused."""

from __future__ import annotations

import codecs

ENCODING_ERRORS = "sandbox-storable"
"""The name of the handler of errors, for `str.encode` and `bytes.decode`."""

_BYTES = codecs.lookup_error("surrogateescape")
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}".encode()


def _handle(error: UnicodeError) -> tuple[str | bytes, int]:
    """Keep bytes that are no UTF-8 as they are; write any other half of a surrogate pair as U+FFFD."""
    try:
        return _BYTES(error)
    except UnicodeEncodeError as found:
        return _REPLACEMENT, found.start + 1


codecs.register_error(ENCODING_ERRORS, _handle)
