"""What holds while the libraries are loaded, which is most of a short command's time."""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """Import in here.

    Ctrl-C ends the program as it ends any, and not with a traceback out of somebody's module; whoever has
    set a handler of their own keeps it. The garbage collector rests: it would look through all that is
    loaded so far again and again, and find nothing, in a third of the time.
    """
    restores = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if restores:
        try:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        except ValueError:
            # Not the main thread, which alone is interrupted.
            restores = False
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
        if restores:
            signal.signal(signal.SIGINT, signal.default_int_handler)
