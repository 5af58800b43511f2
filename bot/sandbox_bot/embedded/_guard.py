"""Runs one server as a child, and ends it when the process that wants the server ends.

It runs as a script (`python -I -S _guard.py PLAN`) and is never imported. The guard has its own session, so
Ctrl-C does not reach it. Standard input is a socket to the process that wants the server:

- closed (that process has ended, for any reason): stop the server;
- `s`: stop the server; `k`: kill it;
- the guard writes `pid N` once, and `exit N` when the server and all its child processes have ended.

On Linux the kernel also signals the server when the guard itself is killed.

The plan is a JSON object: `command`, `environment`, `stop_signal`, `grace` (seconds from the stop signal to
SIGKILL), `user` (`[uid, gid]` to change to, or null) and `reach` (paths that this user must be able to read).
It contains no secrets, because other users can read a command line.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import sys
import time
from typing import Any, NoReturn

CONTROL = 0
LINUX = sys.platform == "linux"

# <linux/prctl.h>, <linux/capability.h>, <linux/securebits.h>
PR_SET_PDEATHSIG = 1
PR_SET_SECUREBITS = 28
PR_SET_CHILD_SUBREAPER = 36
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
SECBIT_NO_SETUID_FIXUP = 1 << 2
CAP_DAC_OVERRIDE = 1
LINUX_CAPABILITY_VERSION_3 = 0x20080522


def main() -> None:
    """Start the server of the plan, obey the control socket, and end when every process has ended."""
    plan: dict[str, Any] = json.loads(sys.argv[1])
    wake = _wake_on_signals()
    if LINUX:
        # Processes of a killed server become children of the guard, which waits for them.
        _prctl(PR_SET_CHILD_SUBREAPER, 1)
    guard = os.getpid()
    server = os.fork()
    if server == 0:
        _become_server(plan, guard)
    _tell(f"pid {server}\n")
    _tell(f"exit {_watch(server, wake, plan)}\n")
    # Skip the interpreter's shutdown: another process waits for this one to end.
    os._exit(0)


def _watch(server: int, wake: int, plan: dict[str, Any]) -> int:
    """Wait until the server and its descendants have ended. Return its exit code, negative for a signal."""
    code: int | None = None
    sources = [CONTROL, wake]
    deadline: float | None = None
    killing = False
    while True:
        patience = None if deadline is None else max(0.0, deadline - time.monotonic())
        ready = select.select(sources, [], [], patience)[0]
        stop = False
        if wake in ready:
            stop = any(number != signal.SIGCHLD for number in os.read(wake, 512))
        if CONTROL in ready:
            order = _read_order()
            if not order:
                sources.remove(CONTROL)
            killing = killing or b"k" in order
            stop = stop or not order or b"s" in order
        if deadline is not None and time.monotonic() >= deadline:
            killing = True
        if stop and deadline is None and code is None:
            deadline = time.monotonic() + plan["grace"]
            os.kill(server, plan["stop_signal"])
        if killing:
            deadline = time.monotonic() + 0.05
            _kill_everything(server if code is None else None)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return code if code is not None else 0
            if pid == 0:
                break
            if pid == server:
                code = os.waitstatus_to_exitcode(status)
                # The server's remaining processes get the same time to end.
                deadline = time.monotonic() + plan["grace"]


def _read_order() -> bytes:
    try:
        return os.read(CONTROL, 64)
    except ConnectionError:
        return b""


def _tell(line: str) -> None:
    try:
        os.write(CONTROL, line.encode())
    except OSError:
        # The other process has ended; the closed socket stops the server.
        return


def _kill_everything(server: int | None) -> None:
    victims = set() if server is None else {server}
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as children:  # noqa: PTH123 (pathlib slows every start)
            victims.update(int(pid) for pid in children.read().split())
    except OSError:
        pass  # not Linux: the server's children notice themselves that it has ended
    for pid in victims:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _wake_on_signals() -> int:
    """Return a descriptor from which the number of each received signal can be read."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: None)
    return reader


def _become_server(plan: dict[str, Any], guard: int) -> NoReturn:
    try:
        os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        # Python ignores it, and an ignored signal stays ignored after exec.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDWR), CONTROL)
        os.umask(0o077)
        if plan["user"] is not None:
            uid, gid = plan["user"]
            _change_user(uid, gid, plan["reach"])
        if LINUX:
            # After the change of user, which clears it. The kernel watches the thread that starts the server;
            # the guard has only this one.
            _prctl(PR_SET_PDEATHSIG, plan["stop_signal"])
            if os.getppid() != guard:
                os._exit(1)
        os.execve(plan["command"][0], plan["command"], plan["environment"])  # noqa: S606
    except BaseException as error:  # a forked child must never return into the guard's loop
        os.write(2, f"{plan['command'][0]}: {error}\n".encode())
        os._exit(127)


def _change_user(uid: int, gid: int, reach: list[str]) -> None:
    """Become an ordinary user, as PostgreSQL demands.

    The user can't read a checkout below a private directory (`/root`, `mktemp -d`). Instead of opening these
    directories to everyone, the server then keeps one right of root: to ignore permission bits.
    """
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.seteuid(uid)
    within_reach = all(os.access(path, os.R_OK | os.X_OK, effective_ids=True) for path in reach)
    os.seteuid(0)
    if within_reach:
        os.setresuid(uid, uid, uid)
        return
    if not LINUX:
        raise PermissionError(f"user {uid} has no access to {' or '.join(reach)}")
    # Without this the kernel drops the right on the change of user, and access(2), which PostgreSQL uses to
    # find its own programs, ignores the right.
    _prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP)
    os.setresuid(uid, uid, uid)
    _keep_only_capability(CAP_DAC_OVERRIDE)
    _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE)


def _keep_only_capability(capability: int) -> None:
    """Reduce the effective, permitted and inheritable sets to this one capability, with capset(2)."""
    header = (ctypes.c_uint32 * 2)(LINUX_CAPABILITY_VERSION_3, 0)
    mask = 1 << capability
    data = (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.capset(ctypes.byref(header), ctypes.byref(data)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"capset: {os.strerror(number)}")


def _prctl(option: int, *arguments: int) -> None:
    words = [ctypes.c_ulong(word) for word in (*arguments, 0, 0, 0, 0)[:4]]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(ctypes.c_int(option), *words) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl {option}: {os.strerror(number)}")


if __name__ == "__main__":
    main()
