"""The command line as a person runs it: on a terminal."""

from __future__ import annotations

import asyncio
import os
import pty

from .conftest import Shell


async def on_terminal(shell: Shell, *arguments: str, answer: str = "") -> tuple[int, str]:
    """Run it with a terminal on every stream; `answer` is typed once a question stands there."""
    ours, theirs = pty.openpty()
    try:
        coloured = shell.having(TERM="xterm-256color", COLUMNS="120")
        process = await coloured.start(*arguments, streams=dict.fromkeys(range(3), theirs))
    finally:
        os.close(theirs)
    written, answered = b"", not answer
    async with asyncio.timeout(60):
        while True:
            try:
                chunk = await asyncio.to_thread(os.read, ours, 65536)
            except OSError:
                # Linux's answer when the other end is closed.
                break
            if not chunk:
                break
            written += chunk
            if not answered and b"[y/N]" in written:
                os.write(ours, f"{answer}\n".encode())
                answered = True
        code = await process.wait()
    os.close(ours)
    assert b"Traceback" not in written
    return code, written.decode()
