"""Which shards this process runs: leases in PostgreSQL, renewed every second.

A lease lasts six seconds. As long as this process's last renewal was asked for less than that ago, nobody
else can have the shard, by the database's own clock. What follows from there:

- A process that dies stops renewing. The next turn of any other process takes its shards and resumes their
  sessions: at once where both PostgreSQL and NATS say that it is gone (see `Presence`), and else when its
  leases have lapsed.
- While PostgreSQL is away nobody can take anything, so every process keeps what it runs: the event path
  does not touch the database. When it is back, all leases have lapsed. A process takes lapsed leases only
  after it has reached the database for a whole lease without a break; by then every process that lives has
  renewed its own, which it tries every second.
- A process that alone is cut off from PostgreSQL loses its shards to others after six seconds. Who takes
  them tells it over NATS, with the epoch of each, which grows with every change of holder: whoever runs one
  of an earlier epoch, and does not learn from the database that it is untrue (see `Hearsay`), publishes and
  saves nothing more of it, closes its connection, and makes no other before it has the lease again. The taker
  waits half a second for that, before it looks what is stored.
- A process that does not hear it is cut off from both, and publishes nothing then (see `Certainty`). What it
  saves of the session is refused by its earlier epoch. Discord closes its connection when the session is
  resumed elsewhere. Before this process connects a shard again whose lease it can't vouch for, it asks the
  database. Getting no answer, it connects, but only a few times: being closed at once again and again means
  that somebody else has the session, and it waits for the database. What both publish has the same message
  ids, and JetStream keeps it once.
- A process that was frozen sends and saves nothing before its next turn (see `LeaseTrust`). Events of a
  shard that turns out to be lost are dropped: Discord replays them to the new holder. So are those of a shard
  that is free again, or this process's again, when its epoch tells that another one had it in between: then
  the shard is begun anew, from what the last holder saved.
- A shard is handed over only when all its events are acknowledged.

A process that starts while PostgreSQL is away can't claim anything. It asks the others over NATS, without
which nobody publishes (see `ShardHolders`). With nobody there it runs all shards without leases, until the
database is back and the leases are taken, by whoever is first. Processes with fixed shards take the same
leases, so that a restart hands sessions over in the same way and two with the same shards don't fight. With
PostgreSQL away at the start they run them when no plugin runs any: that these are theirs is the operator's
word, of which a plugin's bot knows nothing.

A plugin in somebody else's bot takes the same leases, on the shards whose sessions its bot has. Its sessions
are resumed by nobody: who follows it, and whom it follows, has a session of its own on the shard and stands
by (`Runs.stand_by`) until it is the one to publish. Numbers of shards that differ overlap in some way or
other, so while one number's leases hold nobody takes any of another's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from uuid import UUID

import structlog

from sandbox_core.errors import DependencyUnavailable
from sandbox_core.lease_trust import LeaseTrust

from . import tuning
from .certainty import Certainty
from .hearsay import Hearsay
from .held_shards import HeldShards
from .lease_rows import ShardRows
from .lease_types import Before, Leases, Runs, TellsTakeovers
from .other_leases import Lease
from .publishers import Holder

_log = structlog.get_logger("sandbox.gateway")

_UNVOUCHED_CLOSES = 3
_TURNS_BEFORE_ASKING = 3
_NOT_ASKED = Leases({}, 0)


class LeaseKeeper:
    """Takes, renews and gives up leases, and has `runs` run what they say.

    `shard_count` and `shard_ids` are given when the settings fix the shards; without, their number is
    agreed with the other processes, from Discord's `recommended`. `anybody_else` tells without PostgreSQL
    whether another process runs shards that this one would run too, or raises `DependencyUnavailable`; it is
    asked at once when `at_once`, by default where shards are fixed. `takeovers` tells others what was taken
    from them; what they tell is given to `taken`. `is_gone` tells of a process whose session in PostgreSQL is
    over whether NATS has no connection of it either; see `Presence`. `can_hand_over` says whether events can
    be drained now. `trust` is told until when the leases hold. `lease` and `monotonic` are in seconds.
    """

    def __init__(
        self,
        rows: ShardRows,
        runs: Runs,
        *,
        recommended: int,
        shard_count: int | None = None,
        shard_ids: Collection[int] | None = None,
        anybody_else: Callable[[], Awaitable[bool]],
        at_once: bool | None = None,
        takeovers: TellsTakeovers,
        is_gone: Callable[[UUID], Awaitable[bool]],
        can_hand_over: Callable[[], bool] = lambda: True,
        trust: LeaseTrust | None = None,
        lease: float = tuning.LEASE,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.trouble = "its shards are not shared out yet"
        """Why this process can't know its shards; "" when it does."""
        self._rows = rows
        self._runs = runs
        self._recommended = recommended
        fixed = range(shard_count or 0) if shard_ids is None else shard_ids
        self._fixed = None if shard_count is None else frozenset(fixed)
        self._shard_count = shard_count
        self._is_prepared = False
        self._anybody_else = anybody_else
        self._at_once = self._fixed is not None if at_once is None else at_once
        self._takeovers = takeovers
        self._is_gone = is_gone
        self._can_hand_over = can_hand_over
        self._lease = lease
        self._monotonic = monotonic
        self._certainty = Certainty(trust or LeaseTrust(), lease, monotonic)
        self._hearsay = Hearsay(rows, self._certainty, self.epoch, monotonic=monotonic)
        self._leases = _NOT_ASKED
        self._shards = HeldShards(runs, self._release, monotonic)
        self._orphaned: frozenset[Lease] = frozenset()
        """Leases of processes that are gone, to be taken in the next turn."""
        self._superseded: dict[int, dict[int, int]] = {}
        """By another number of shards, those whose leases ended when this process took its own."""
        self._unreachable_turns = 0
        self._heard_others = False
        """Somebody ran shards while PostgreSQL was away."""
        self._standby: frozenset[int] = frozenset()
        self._named: frozenset[str] = frozenset()
        """Whom this process stands by for, as it was said last."""
        self._leaving = False
        self._wake = asyncio.Event()
        self._turned = asyncio.Event()

    @property
    def standing_by(self) -> bool:
        """True when all shards are other processes'."""
        return self._leases is not _NOT_ASKED and not self._leases.mine and not self._runs.running

    def epoch(self, shard_id: int) -> int:
        """The epoch of this process's last confirmed lease on the shard; 0 without."""
        return self._leases.of(shard_id).epoch

    def stale_epoch(self, shard_id: int) -> int:
        """Sessions of the shard that were saved under this epoch or an earlier one are not to be resumed."""
        return self._leases.of(shard_id).stale_epoch

    @property
    def waits_for(self) -> Mapping[int, Holder]:
        """Who has the shards that this process would publish."""
        return self._leases.others_of

    @property
    def stands_by_for(self) -> Mapping[int, Holder]:
        """Who has the shards that this process would publish, or all shards, so that it has none."""
        return self._leases.others_of or (self._leases.held_by if self.standing_by else {})

    @property
    def wanted(self) -> frozenset[int]:
        """The fixed shards; none where shards are shared out."""
        return frozenset() if self._fixed is None else self._fixed

    def want(self, shard_ids: Collection[int]) -> None:
        """These are this process's fixed shards from now on."""
        self._fixed = frozenset(shard_ids)
        self._wake.set()

    # What others and NATS tell

    async def taken(self, shard_count: int, epochs: Mapping[int, int]) -> Collection[int]:
        """It is said that another process took these shards, and with which epochs.

        What is believed is published and saved here no more. Returns what was run here of it.
        """
        if shard_count != self._shard_count:
            return ()
        taken = await self._hearsay.believed(shard_count, epochs)
        self._leases = self._leases if self._leases is _NOT_ASKED else self._leases.without(taken)
        return self._shards.taken(taken)

    def nats_is_away(self) -> None:
        """See `Certainty.nats_is_away`."""
        self._certainty.nats_is_away()

    def nats_is_back(self) -> None:
        """See `Certainty.nats_is_back`."""
        self._certainty.nats_is_back()
        self._wake.set()

    # Turns

    async def run(self) -> None:
        """Take turns until cancelled."""
        try:
            while True:
                await self.turn()
                turned, self._turned = self._turned, asyncio.Event()
                turned.set()
                with suppress(TimeoutError):
                    async with asyncio.timeout(tuning.TURN_EVERY):
                        await self._wake.wait()
                self._wake.clear()
        finally:
            await self._shards.close()

    async def turn(self) -> None:
        """Renew, take and give up, once."""
        asked_at = self._monotonic()
        self._shards.asks()
        try:
            async with asyncio.timeout(tuning.TURN_WITHIN):
                leases = await self._ask(asked_at)
        except (DependencyUnavailable, TimeoutError) as error:
            self._certainty.unanswered(asked_at)
            await self._unreachable(error)
            return
        if self._unreachable_turns:
            _log.info("leases_confirmed", shards=sorted(leases.mine))
        self._unreachable_turns = 0
        self._heard_others = False
        self.trouble = ""
        self._certainty.confirmed(asked_at)
        leases = self._shards.note(leases, asked_at)
        lost = self._lost(leases)
        self._leases = leases
        for shard_id in lost:
            self._runs.lose(shard_id)
        self._certainty.trust_confirmed()
        await self._tell_taken_over(leases)
        await self._follow(leases, lost)
        self._stand_by(leases, asked_at)
        await self._find_orphaned(leases)

    async def may_connect(self, shard_id: int, *, closed_at_once: bool) -> None:
        """Return when the shard may connect again. `closed_at_once`: Discord did that to its last one."""
        while self._shards.of(shard_id).taken_at is not None and shard_id not in self._standby:
            await self._next_turn()
        if self._vouched(shard_id) or shard_id in self._standby:
            # What this process stands by for is not published.
            return
        await self._next_turn()
        if self._vouched(shard_id):
            return
        shard = self._shards.of(shard_id)
        shard.unvouched_closes = shard.unvouched_closes + 1 if closed_at_once else 0
        if shard.unvouched_closes < _UNVOUCHED_CLOSES:
            return
        _log.warning("shard_waits_for_its_lease", shard=shard_id, dependency="PostgreSQL")
        while not self._vouched(shard_id):
            await self._next_turn()

    def stop_taking(self) -> None:
        """The process ends: it only renews from now on."""
        self._leaving = True

    async def leave(self) -> None:
        """Give everything up; what PostgreSQL does not hear of lapses by itself."""
        self._certainty.given_up()
        try:
            async with asyncio.timeout(tuning.TURN_WITHIN):
                await self._rows.leave()
        except (DependencyUnavailable, TimeoutError):
            _log.warning("leases_not_released", dependency="PostgreSQL", lapse_in=self._lease)

    async def _release(self, shard_id: int) -> None:
        await self._rows.release(self._shard_count or 1, shard_id)

    async def _next_turn(self) -> None:
        turned = self._turned
        self._wake.set()
        await turned.wait()

    def _vouched(self, shard_id: int) -> bool:
        """Nobody else can have the shard."""
        return self.epoch(shard_id) > 0 and self._certainty.nobody_else_can_have_them

    async def _ask(self, asked_at: float) -> Leases:
        if not self._is_prepared:
            await self._prepare()
        count = self._shard_count or 1
        taking = not self._leaving
        lapsed = self._certainty.may_take_lapsed(asked_at)
        orphaned, self._orphaned = self._orphaned, frozenset()
        if self._fixed is None:
            return await self._rows.share(count, may_take_lapsed=lapsed, taking=taking, orphaned=orphaned)
        running = self._runs.running
        return await self._rows.fix(
            count, self._fixed, running, may_take_lapsed=lapsed, taking=taking, orphaned=orphaned
        )

    async def _prepare(self) -> None:
        if self._fixed is not None:
            await self._rows.prepare(self._shard_count or 1)
        else:
            count = await self._rows.agree(self._recommended)
            if self._shard_count not in (None, count):
                # Run without leases so far; shards of another number are other sessions.
                for shard_id in self._runs.running:
                    await self._runs.drop(shard_id)
            self._shard_count = count
        self._is_prepared = True

    def _lost(self, leases: Leases) -> Collection[int]:
        """What is run here and another process has, or had since the last turn that reached the database."""
        changed = {n for n, epoch in self._leases.mine.items() if leases.of(n).epoch != epoch}
        return self._runs.running & (leases.others | changed)

    async def _tell_taken_over(self, leases: Leases) -> None:
        # At every turn: who does not hear it now may be back on NATS later, and still without PostgreSQL.
        epochs = {shard_id: leases.of(shard_id).epoch for shard_id in self._shards.taken_over}
        if epochs:
            within = tuning.STOPS_WITHIN if any(s.is_taken_over for s in leases.shards.values()) else 0.0
            await self._takeovers.tell(self._shard_count or 1, epochs, within=within)
        self._superseded |= {count: dict(ended) for count, ended in leases.superseded.items()}
        if not leases.mine:
            self._superseded = {}
        for shard_count, ended in self._superseded.items():
            within = tuning.STOPS_WITHIN if shard_count in leases.superseded else 0.0
            await self._takeovers.tell(shard_count, ended, within=within)

    async def _follow(self, leases: Leases, lost: Collection[int]) -> None:
        await self._shards.drop(lost, leases.others)
        if self._leaving:
            return
        self._shards.begin(leases.mine, self._shard_count or 1)
        self._runs.shards_known(self._shard_count or 1)
        if len(leases.mine) > leases.share and self._shards.may_hand_over and self._can_hand_over():
            self._shards.hand_over(max(leases.mine))

    def _stand_by(self, leases: Leases, asked_at: float) -> None:
        """Be ready for what others publish, and say once that they do."""
        standby = {} if self._leaving else leases.standby
        self._standby = frozenset(standby)
        self._runs.stand_by(
            {shard_id: Before.of(found, asked_at) for shard_id, found in standby.items()},
            self._shard_count or 1,
        )
        named = frozenset(str(found.holder) for found in standby.values())
        if named and named != self._named:
            _log.warning("publishing_stands_by", shards=sorted(standby), published_by=sorted(named))
        elif self._named and not named:
            _log.info("publishing_stands_by_no_more", shards=sorted(leases.mine))
        self._named = named

    async def _find_orphaned(self, leases: Leases) -> None:
        """Find out which leases the next turn may take before they lapse, and begin it at once."""
        if self._leaving:
            return
        holders = {lease.holder_id for lease in leases.orphaned}
        gone = {holder_id for holder_id in holders if await self._is_gone(holder_id)}
        self._orphaned = frozenset(lease for lease in leases.orphaned if lease.holder_id in gone)
        if self._orphaned:
            _log.info("holder_gone", shards=sorted(lease.shard_id for lease in self._orphaned))
            self._wake.set()

    # While PostgreSQL is away

    async def _unreachable(self, error: Exception) -> None:
        if not isinstance(error, DependencyUnavailable):
            problem = f"no answer within {tuning.TURN_WITHIN:g} s"
            error = DependencyUnavailable("PostgreSQL", problem, self._rows.where)
        if self._unreachable_turns == 0:
            _log.warning("leases_not_renewed", dependency="PostgreSQL", reason=error.reason)
        self._unreachable_turns += 1
        new = self._new_ones()
        if self._leaving or not new:
            return
        self.trouble = f"its shards are claimed in PostgreSQL: {error.reason}"
        early = not self._at_once and self._unreachable_turns <= _TURNS_BEFORE_ASKING
        if early or await self._is_anybody_else():
            return
        if self._fixed is None:
            self._shard_count = self._recommended
        _log.warning("shards_run_without_leases", dependency="PostgreSQL", shards=sorted(new))
        self.trouble = ""
        if self._heard_others:
            for shard_id in new:
                self._shards.of(shard_id).before = Before(None)
        self._shards.begin(new, self._shard_count or 1)
        self._runs.shards_known(self._shard_count or 1)

    def _new_ones(self) -> Collection[int]:
        """The shards of which PostgreSQL was never asked."""
        if self._fixed is not None and not self._at_once:
            # A bot's sessions begin one after the other.
            return self._fixed - self._runs.running - self.waits_for.keys()
        if self._leases is not _NOT_ASKED or self._runs.running:
            return ()
        return range(self._recommended) if self._fixed is None else self._fixed

    async def _is_anybody_else(self) -> bool:
        try:
            found = await self._anybody_else()
        except DependencyUnavailable as error:
            self.trouble = f"its shards are claimed in PostgreSQL, which is away, as is {error.dependency}"
            return True
        self._heard_others = self._heard_others or found
        if found:
            self.trouble = "its shards are claimed in PostgreSQL, which is away; another process runs some"
        return found
