"""Programs without their start-up time, for tests that start dozens of them.

The server imports once what the programs need; each program is a fork of it, in which its module is run as
`python -m` does. The client hands over the arguments, the working directory, the environment and the standard
streams, of which some may be closed, and is told the process's id and, at its end, its exit code.

    python warm.py SOCKET MODULE...

Of its clients `ask_warm.py` does what `sandboxctl` does, for shells, and `tests.forked` can signal. The
server ends with its standard input.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import marshal
import os
import runpy
import select
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Collection
from typing import Any

_STREAMS = 3


def serve(path: str, modules: list[str]) -> None:
    """Import the modules, and answer until standard input ends."""
    with socket.socket(socket.AF_UNIX) as listener:
        # Whoever comes before the imports are done waits until they are.
        listener.bind(path)
        listener.listen(128)
        print("serving", flush=True)
        for module in modules:
            importlib.import_module(module)
        _do_once()
        # What is there already is garbage in no fork, and is not looked at again in any.
        gc.collect()
        gc.freeze()
        running: dict[int, socket.socket] = {}
        woken, wakes = os.pipe()
        for end in (woken, wakes):
            os.set_blocking(end, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wakes)
        while sys.stdin not in (ready := select.select([listener, sys.stdin, woken], [], [])[0]):
            if woken in ready:
                os.read(woken, 1 << 16)
                _tell_ends(running)
            if listener in ready:
                connection, _ = listener.accept()
                if child := _start(connection, [listener, *running.values()], [woken, wakes]):
                    running[child] = connection


def _do_once() -> None:
    """Do what every start of a command does again, half of what a small one does.

    Typer makes commands of their signatures, pydantic reads the settings' annotations, and modules are loaded
    where they are first needed.
    """
    if (cli := sys.modules.get("sandbox_bot.cli")) is not None:
        typer = sys.modules["typer.main"]
        typer.get_params_from_function = functools.cache(typer.get_params_from_function)  # type: ignore[attr-defined]
        typer.get_command = functools.cache(typer.get_command)  # type: ignore[attr-defined]
        typer.get_command(cli.app)  # type: ignore[attr-defined]
        settings = sys.modules["sandbox_core.settings"]
        with contextlib.suppress(settings.SettingsError):  # type: ignore[attr-defined]
            settings.load_settings()  # type: ignore[attr-defined]
    for module in ("uvloop", "typer._adapters"):
        with contextlib.suppress(ImportError):
            importlib.import_module(module)


def _start(
    connection: socket.socket, others: Collection[socket.socket], descriptors: Collection[int]
) -> int | None:
    """Run what a client asks for in a fork, which closes all of these; returns its id."""
    request, streams, _, _ = socket.recv_fds(connection, 1 << 20, _STREAMS)
    if not request:
        # The client was killed before it had asked.
        connection.close()
        return None
    child = os.fork()
    if child == 0:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for each in (connection, *others):
            each.close()
        for number in descriptors:
            os.close(number)
        command = marshal.loads(request)  # noqa: S302 (of this suite's own processes)
        for number in set(range(_STREAMS)) - set(command["streams"]):
            os.close(number)
        for number, stream in zip(command["streams"], streams, strict=True):
            os.dup2(stream, number)
            os.close(stream)
        os._exit(_run(command))
    for stream in streams:
        os.close(stream)
    _tell(connection, child)
    return child


def _tell_ends(running: dict[int, socket.socket]) -> None:
    """Tell the clients of those that have ended."""
    while running:
        child, status = os.waitpid(-1, os.WNOHANG)
        if child == 0:
            return
        with running.pop(child) as connection:
            _tell(connection, os.waitstatus_to_exitcode(status))


def _tell(connection: socket.socket, number: int) -> None:
    # The client itself may have been killed.
    with contextlib.suppress(OSError):
        connection.sendall(f"{number}\n".encode())


def _run(command: dict[str, Any]) -> int:
    """Run the module in this fork, to the end that an interpreter of its own would come to."""
    # Made anew, as at an interpreter's start: the inherited ones know what the server's streams were. There,
    # too, a closed one is None.
    streams = command["streams"]
    sys.stdin = sys.__stdin__ = os.fdopen(0) if 0 in streams else None  # type: ignore[assignment, misc]
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w") if 1 in streams else None  # type: ignore[assignment, misc]
    words = os.fdopen(2, "w", buffering=1, errors="backslashreplace") if 2 in streams else None
    sys.stderr = sys.__stderr__ = words  # type: ignore[assignment, misc]
    os.chdir(command["directory"])
    os.environ.clear()
    os.environ.update(command["environment"])
    module = command["module"]
    sys.argv = [module, *command["arguments"]]
    sys.path[0] = command["directory"]
    # It was imported for what it imports: its own code is run anew, in this environment.
    is_package = hasattr(sys.modules.get(module), "__path__")
    sys.modules.pop(f"{module}.__main__" if is_package else module, None)
    code = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if isinstance(end.code, int):
            code = end.code
        elif end.code is not None:
            print(end.code, file=sys.stderr)
            code = 1
    except BaseException:
        # The fork's last chance to be heard: it must not go on as a server.
        traceback.print_exc()
        code = 70
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    # What is left unclosed says so.
    gc.collect()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    return code


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2:])
