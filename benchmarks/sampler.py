"""Where the CPU time of this process goes: a sampling profiler that needs no rights and no other program.

The interval timer of the process's CPU time (`ITIMER_PROF`) interrupts it; the handler notes the line being
executed. A call into C is noted at the line that makes it.
"""

from __future__ import annotations

import linecache
import signal
from collections import Counter
from types import FrameType

_INTERVAL = 0.001

# First match decides, from the innermost frame outwards: file, then function or words of the line.
_PLACES: tuple[tuple[str, str, str], ...] = (
    ("/gateway/inflate.py", "", "inflate"),
    ("/gateway/reader.py", "_decompress(", "inflate"),
    ("sandbox_core/events/", "", "decode"),
    ("sandbox_core/routing.py", "", "decide"),
    ("sandbox_core/nats/ack_inbox.py", "", "ack"),
    ("sandbox_core/nats/wire.py", "_parse", "ack"),
    ("sandbox_core/nats/wire.py", "_take", "ack"),
    ("sandbox_core/nats/publisher.py", "stored", "ack"),
    ("sandbox_core/event_router/router.py", "acknowledged", "ack"),
    ("sandbox_core/event_router/lane.py", "off", "ack"),
    ("sandbox_core/event_router/ledger.py", "done", "ack"),
    ("sandbox_core/event_router/activity.py", "", "ack"),
    ("nats/aio/client.py", "_read_loop", "ack"),
    ("nats/aio/client.py", "_process_msg", "ack"),
    ("nats/protocol/parser.py", "", "ack"),
    ("nats/aio/subscription.py", "", "ack"),
    ("sandbox_core/event_router/router.py", "_publish", "publish"),
    ("sandbox_core/nats/", "", "publish"),
    ("nats/", "", "publish"),
    ("sandbox_core/event_router/", "", "decide"),
    ("aiohttp/", "", "read"),
    ("bot/gateway/", "", "read"),
    ("sandbox_bot/gateway/", "", "read"),
    ("discord/gateway.py", "", "read"),
)
_OTHER = "other"
STEPS = ("read", "inflate", "decode", "decide", "publish", "ack", _OTHER)


class Sampler:
    """Samples from `start` to `stop`; use it on the main thread."""

    def __init__(self) -> None:
        self._samples: Counter[tuple[tuple[str, str, int], ...]] = Counter()

    def start(self) -> None:
        """Begin to sample, once per millisecond of CPU time."""
        signal.signal(signal.SIGPROF, self._sample)
        signal.setitimer(signal.ITIMER_PROF, _INTERVAL, _INTERVAL)

    def stop(self) -> dict[str, object]:
        """Share of the samples by step, and the lines with the most samples."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, signal.SIG_IGN)
        steps: Counter[str] = Counter()
        lines: Counter[str] = Counter()
        total = sum(self._samples.values()) or 1
        for stack, count in self._samples.items():
            steps[_step(stack)] += count
            if stack:
                file, function, number = stack[0]
                name = "/".join(file.split("/")[-2:])
                lines[f"{name}:{number} {function}"] += count
        return {
            "samples": total,
            "steps": {step: steps[step] / total for step in STEPS},
            "lines": [[line, count / total] for line, count in lines.most_common(25)],
        }

    def _sample(self, _number: int, frame: FrameType | None) -> None:
        stack: list[tuple[str, str, int]] = []
        while frame is not None and len(stack) < 12:
            stack.append((frame.f_code.co_filename, frame.f_code.co_name, frame.f_lineno))
            frame = frame.f_back
        self._samples[tuple(stack)] += 1


def _step(stack: tuple[tuple[str, str, int], ...]) -> str:
    for file, function, number in stack:
        for place, word, step in _PLACES:
            if place in file and (
                word in (function, "") or (word and word in linecache.getline(file, number))
            ):
                return step
    return _OTHER
