"""`sandboxctl`: the command line over the same core."""

from .._loading import loading

with loading():
    from ._app import app, main
    from ._loop import run_on_fast_loop

__all__ = ["app", "main", "run_on_fast_loop"]
