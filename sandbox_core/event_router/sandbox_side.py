"""The sandboxes' side of the router: their events' budgets, and what happens when one is used up.

A sandbox then loses its oldest event that is surely not stored. One that is on its way may be stored by now:
it is dropped only when its publisher gives it up. An event that waits is dropped only while its guild's
events go to the sandbox for certain: what could be production's is never lost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sandbox_core.metrics import Drop
from sandbox_core.nats.publication import Publication
from sandbox_core.routing import RouteTable, decide

from .budget import SandboxBudget, SandboxBudgets
from .lane import Event
from .ledger import Backlog

if TYPE_CHECKING:
    from sandbox_core.nats.publication import Publisher


class SandboxSide:
    """Charges budgets and drops what they can't hold.

    `start` publishes a lane's next event, `table` is the route table while it can be trusted, `now` is in
    seconds since the epoch.
    """

    def __init__(
        self,
        budgets: SandboxBudgets,
        backlog: Backlog,
        *,
        start: Callable[[Event], None],
        drained: Callable[[], None],
        table: Callable[[], RouteTable | None],
        now: Callable[[], float],
    ) -> None:
        self.budgets = budgets
        self._backlog = backlog
        self._start = start
        self._drained = drained
        self._table = table
        self._now = now
        self._publisher: Publisher = _Nowhere()
        self._is_relieving = False

    def attach(self, publisher: Publisher) -> None:
        """Publish through this one."""
        self._publisher = publisher

    # What the router tells

    def waits(self, event: Event) -> None:
        """A new event will wait behind what goes to the sandbox; it is not in its lane yet."""
        budgets, first = self.budgets, event.lane.first
        if first is not None and first.borne_by == event.borne_by and not first.charged:
            # The one that it waits for has to wait, too.
            budgets.add(first.borne_by, first)
        budget = budgets.add(event.borne_by, event)
        if budgets.count > budgets.surely or budgets.size > budgets.surely_bytes:
            self._relieve(budget, event)

    def publish(self, event: Event, sandbox_id: str, publication: Publication) -> None:
        """The event goes to the sandbox now."""
        lane = event.lane
        if event.charged and self.budgets.episodes:
            self.budgets.published(event, publication)
        if event.borne_by == sandbox_id == lane.charges:
            self._publisher.submit(publication)
            return
        if event.borne_by != sandbox_id:
            self._charge(event, sandbox_id)
        if not lane.is_special:
            lane.charges = sandbox_id
            # What came while nobody knew where it would go.
            for behind in lane.behind:
                if not behind.borne_by:
                    self._charge(behind, sandbox_id)
        self._publisher.submit(publication)
        if event.charged:
            self._relieve(self.budgets.of(sandbox_id))

    def _charge(self, event: Event, sandbox_id: str) -> None:
        if event.borne_by:
            self.give_back(event)
        self._backlog.put_beside(len(event.frame.raw))
        self.budgets.add(sandbox_id, event)

    def remove(self, event: Event) -> None:
        """An event that a sandbox bears is another process's from now on."""
        if event.charged:
            self.budgets.remove(event)
        event.borne_by = ""
        self._backlog.take_off_beside()

    def give_back(self, event: Event) -> None:
        """An event that a sandbox bears is not the sandbox's, or may be not."""
        self._backlog.add(len(event.frame.raw))
        self.remove(event)

    # Dropping

    def _relieve(self, budget: SandboxBudget, new: Event | None = None) -> None:
        """Drop what is too much, but not the new event. What that sets off is dealt with in the same loop."""
        if self._is_relieving:
            return
        self._is_relieving = True
        try:
            while (overdrawn := self.budgets.overdrawn(budget)) is not None:
                event = self._oldest(overdrawn)
                if event is None or event is new:
                    # All the others are on their way.
                    break
                if self._is_certain(event):
                    self._drop(event, "budget")
                else:
                    self.give_back(event)
        finally:
            self._is_relieving = False

    def _oldest(self, budget: SandboxBudget) -> Event | None:
        # At most one of each guild is on its way.
        for event, known in budget.events.items():
            if known is None and not (event.lane.is_sent and event.lane.first is event):
                return event
            publication = known or self._publication_of(event)
            if publication is not None and publication.unanswered == 0:
                return event
        return None

    def _publication_of(self, event: Event) -> Publication | None:
        """What was published before the event was charged."""
        for publication in self._publisher.in_flight():
            if publication.context is event:
                self.budgets.published(event, publication)
                return publication
        return None

    def _is_certain(self, event: Event) -> bool:
        """The event goes to the sandbox, whatever happens."""
        lane, destination = event.lane, event.destination or event.frame.decided
        if destination is None:
            table = lane.old_routes
            if table is None and not lane.paused:
                table = self._table()
            if table is None:
                return False
            destination = decide(event.frame, table, self._now())
        return destination.sandbox_id == event.borne_by

    def _drop(self, event: Event, reason: Drop) -> None:
        if not event.charged:
            self.budgets.add(event.borne_by, event)
        publication = self.budgets.drop(event, reason)
        event.borne_by = ""
        self._backlog.take_off_beside()
        if publication is not None:
            self._publisher.withdraw(publication)
        event.ledger.done(event.frame.seq)
        lane = event.lane
        if lane.first is not event:
            lane.remove(event)
            return
        following = lane.off()
        if following is not None:
            self._start(following)
        if lane.paused:
            self._drained()

    # What the publisher tells

    def given_up(self, publication: Publication, reason: Drop, before: float) -> None:
        """The stream does not take it; nor would it what waits behind it and came before that moment."""
        event = publication.context
        if not isinstance(event, Event) or not event.borne_by:
            return
        for behind in list(event.lane.behind):
            if behind.frame.received_at > before or not behind.borne_by or not self._is_certain(behind):
                break
            self._drop(behind, reason)
        self._drop(event, reason)

    def came(self, publication: Publication) -> float:
        """When its event came, in seconds of the clock of the frames."""
        event = publication.context
        return event.frame.received_at if isinstance(event, Event) else 0.0

    def hinders(self, publication: Publication) -> bool:
        """True while a switch, or an event for another side, waits for this one."""
        event = publication.context
        if not isinstance(event, Event):
            return False
        lane = event.lane
        if lane.paused or lane.last_to_leave is not None:
            return True
        table = self._table()
        if table is None or lane.first is None or not lane.behind:
            return False
        present = table.destination(lane.guild_id, self._now())
        return present is None or present.sandbox_id != event.borne_by


class _Nowhere:
    """There is no publisher yet."""

    def submit(self, _publication: Publication) -> None:
        raise RuntimeError("an event is to be published without a publisher")

    def withdraw(self, _publication: Publication) -> None:
        """Nothing was submitted."""

    def in_flight(self) -> list[Publication]:
        return []
