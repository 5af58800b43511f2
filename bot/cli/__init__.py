"""`sandboxctl`: the command line over the same core."""

import signal as _signal

from ._loop import run_on_fast_loop

# Loading the commands is most of a short command's time. Ctrl-C ends it as it ends any program, and not with
# a traceback out of somebody's module; whoever has set a handler of their own keeps it.
try:
    _restore = _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler
    if _restore:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
except ValueError:
    # Not the main thread, which alone is interrupted.
    _restore = False
try:
    from ._app import app, main
finally:
    if _restore:
        _signal.signal(_signal.SIGINT, _signal.default_int_handler)

__all__ = ["app", "main", "run_on_fast_loop"]
