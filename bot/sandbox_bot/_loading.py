"""Speeds up the loading of libraries, which takes most of a short command's time."""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """Import libraries in this context.

    Ctrl-C ends the program without a traceback, unless somebody has set another handler. The garbage
    collector is off: it would take a third of the time and find nothing.
    """
    restores = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if restores:
        try:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        except ValueError:
            # Only the main thread gets Ctrl-C, and this is another one.
            restores = False
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        # What is loaded stays: the first collection would look through all of it, for a tenth of a second.
        gc.freeze()
        if collects:
            gc.enable()
        if restores:
            signal.signal(signal.SIGINT, signal.default_int_handler)
