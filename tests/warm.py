"""`sandboxctl` without its start-up time, for tests with dozens of commands.

The server imports the command line once; each command is a fork of it. The client hands over its arguments,
working directory, environment and standard streams, and ends with the command's exit code.
`tests.cleanup.mortal` and `tests.publishers.host` are started as forks of it, too.

    python warm.py serve SOCKET
    python warm.py SOCKET ARGUMENT...

`tests.forked` is a client that can send signals, too.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

_STREAMS = 3


def serve(path: str) -> None:
    """Answer until terminated."""
    from sandbox_bot.cli import main

    # What `run` imports is imported once as well.
    importlib.import_module("sandbox_bot.runner")
    programs = {
        "sandboxctl": main,
        "mortal": importlib.import_module("tests.cleanup.mortal").main,
        "host": importlib.import_module("tests.publishers.host").main,
    }

    # Nobody waits for the forks that answer: the system collects them.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        print("serving", flush=True)
        while True:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                _answer(connection, programs)
            connection.close()


def _answer(connection: socket.socket, programs: Mapping[str, Callable[[], object]]) -> None:
    request, streams, _, _ = socket.recv_fds(connection, 1 << 20, _STREAMS)
    command = json.loads(request)
    child = os.fork()
    if child == 0:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        # Made anew: the inherited ones know what the server's streams were.
        sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
        os.chdir(command["directory"])
        os.environ.clear()
        os.environ.update(command["environment"])
        sys.argv = [command["program"], *command["arguments"]]
        os._exit(_code_of(programs[command["program"]]))
    for stream in streams:
        os.close(stream)
    connection.sendall(f"{child}\n".encode())
    _, status = os.waitpid(child, 0)
    connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _code_of(main: Callable[[], object]) -> int:
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        # The fork's last chance to be heard: it must not go on as a server.
        traceback.print_exc()
        return 70
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def ask(path: str, arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    request = {
        "program": "sandboxctl",
        "arguments": arguments,
        "directory": str(Path.cwd()),
        "environment": dict(os.environ),
    }
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        socket.send_fds(connection, [json.dumps(request).encode()], list(range(_STREAMS)))
        with connection.makefile() as answers:
            answers.readline()
            return int(answers.readline() or "70")


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    code = ask(sys.argv[1], sys.argv[2:])
    if code < 0:
        os.kill(os.getpid(), -code)
    sys.exit(code)
