"""Makes PostgreSQL's cluster at the first start, with what the bot needs in it: as a whole, or not at all."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

from ._process import GuardedProcess, ProcessPlan

# One script, as each program would wait for a guard of its own. Nothing is flushed before all is there.
_SCRIPT = """\
set -e
programs=$1 cluster=$2 flush=$3
shift 3
"$programs/initdb" --pgdata="$cluster" --no-sync "$@"
printf '%s' "$SETUP" |
    "$programs/postgres" --single -F -c exit_on_error=on -c io_method=sync -D "$cluster" template1
[ -z "$flush" ] || "$programs/initdb" --pgdata="$cluster" --sync-only --sync-method="$flush"
"""
# One call for all of its thousand files, where the kernel has it.
_FLUSH = "syncfs" if sys.platform == "linux" else "fsync"


async def make_cluster(
    cluster: Path, programs: Path, how: ProcessPlan, *, superuser: str, password: str, setup: str, flush: bool
) -> int:
    """Make it, and execute `setup` in `template1`, a statement a line. Return the exit code; 0 is a success.

    `how` says by whom and with which log.
    """
    # Under another name, so that what was interrupted never looks like a cluster.
    unfinished = cluster.with_name(f"{cluster.name}.unfinished")
    password_file = cluster.with_name("initdb.password")
    shutil.rmtree(unfinished, ignore_errors=True)
    password_file.unlink(missing_ok=True)
    _write_private(password_file, f"{password}\n", how.user)
    command = [
        *("/bin/sh", "-c", _SCRIPT, "sh", str(programs), str(unfinished), _FLUSH if flush else ""),
        f"--username={superuser}",
        f"--pwfile={password_file}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--no-locale",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        "--no-instructions",
    ]
    making = await GuardedProcess.start(replace(how, command=command, environment={"SETUP": setup}))
    try:
        code = await making.wait()
    finally:
        await making.kill()
        password_file.unlink()
    if code == 0:
        unfinished.rename(cluster)
    return 1 if code is None else code


def _write_private(path: Path, text: str, user: tuple[int, int] | None) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    if user is not None:
        os.chown(path, *user)
