"""Says what is wrong with a flow, what to do about it, and what else is good to know."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from aiopype.commands.rendering import one_line
from aiopype.commands.status_facts import EventFacts, FlowFacts, PartitionFacts, Remark
from aiopype.progress import duration

__all__ = ["Judge", "reasons"]

#: States of sources of which nothing is to be done: they run, are about to, shall not, or need not.
_FINE = frozenset({"running", "starting", "paused", "ended"})


@dataclass(frozen=True)
class Judge:
    """Judges what was seen of a flow.

    Arguments:
        target: the flow, as commands call it; empty if it need not be named.
        most_lag_seconds: how long the oldest event of a partition may wait.
        is_patient: whether groups that were being rebalanced were waited for.
    """

    target: str
    most_lag_seconds: float
    is_patient: bool = False

    def judged(self, facts: FlowFacts) -> FlowFacts:
        """Return the facts with what is wrong, and what is to be known."""
        troubles = [
            *self._groups(facts),
            *(remark for event in facts.events for remark in self._event(event, facts)),
            *self._sources(facts),
            *_waiting(facts),
            *self._letters(facts),
        ]
        notes = list(self._notes(facts))
        return msgspec.structs.replace(facts, is_well=not troubles, troubles=troubles, notes=notes)

    def is_behind(self, facts: FlowFacts) -> bool:
        """Say whether an event waits for too long although workers run."""
        return bool(facts.workers) and any(
            (event.lag_seconds or 0) > self.most_lag_seconds for event in facts.events
        )

    def _command(self, *words: str) -> str:
        command, *others = words
        return " ".join(filter(None, ("aiopype", command, self.target, *others)))

    def _groups(self, facts: FlowFacts) -> Iterator[Remark]:
        if facts.groups and all(group.state == "empty" for group in facts.groups.values()):
            lag = sum(event.lag or 0 for event in facts.events)
            oldest = max((event.lag_seconds or 0 for event in facts.events), default=0)
            waits = f"; {lag:,} wait, the oldest for {duration(oldest)}" if lag else ""
            text = f"no worker runs{waits}"
            yield Remark("no_worker", "", text, f"start one: {self._command('run')}")
            return
        for what, group in facts.groups.items():
            if group.state == "empty":
                text = f"workers run, but none is in the group of {what}, {group.name}"
                do = "look into their logs, and ask their /health/ready"
                yield Remark("no_worker", what, text, do)
            elif group.state == "rebalancing" and self.is_patient:
                text = f"the rebalance of the group of {what}, {group.name}, does not end"
                do = "look into the logs of workers for one that joins again and again"
                yield Remark("rebalancing", what, text, do)

    def _event(self, event: EventFacts, facts: FlowFacts) -> Iterator[Remark]:
        if not event.partitions:
            yield from _missing(event, facts)
        if alone := [p for p in event.partitions if not p.has_leader]:
            text = f"no broker leads {_places(event, alone)}"
            yield Remark("no_leader", event.event, text, "look at the brokers: one is down")
        if event.is_subscribed:
            yield from _unowned(event, facts)
            if facts.workers and (event.lag_seconds or 0) > self.most_lag_seconds:
                yield self._behind(event)
            yield from _gone(event)

    def _behind(self, event: EventFacts) -> Remark:
        ago = duration(event.lag_seconds or 0)
        text = f"{event.event} is {event.lag or 0:,} behind, the oldest by {ago}"
        if event.handled_rate is None:
            do = "look again: --watch shows whether it gets less"
            return Remark("behind", event.event, text, do)
        if event.handled_rate:
            rates = (
                f"{event.handled_rate:,.1f}/s are handled, {event.written_rate or 0:,.1f}/s come"
            )
            do = "add workers, up to as many as there are partitions, or make its handlers faster"
            return Remark("behind", event.event, f"{text}; {rates}", do)
        names = ", ".join(map(one_line, event.owners[:3])) or "its workers"
        do = f"ask /health/ready of {names}: a manager is down, or a handler takes its time"
        return Remark("standing", event.event, f"{text}, and none is handled", do)

    def _sources(self, facts: FlowFacts) -> Iterator[Remark]:
        group = facts.groups.get("sources")
        if group is None or group.state != "stable":
            return
        for source in facts.sources:
            name, state = source["source"], source["state"]
            if state in _FINE or not source["is_in_program"]:
                continue
            if state == "unreadable":
                text = one_line(source["trouble"] or "", 300)
                do = self._command("sources reset", name, "--position JSON")
            elif source["worker"] is None:
                text = f"source {name} is {'not run' if state == 'never run' else state}"
                do = "start workers of this version: none that runs has it"
            else:
                reason = one_line((source.get("stopped") or {}).get("reason", ""), 200)
                text = ": ".join(filter(None, (f"source {name} is {state}", reason)))
                do = f"look into the log of {one_line(source['worker'])}"
            yield Remark("source", name, text, do)

    def _letters(self, facts: FlowFacts) -> Iterator[Remark]:
        for each in facts.dead_letters:
            do = self._command("errors list", "--component", each.component)
            if each.open is None:
                text = f"{each.component} has about {each.letters:,} dead letters, open or not"
                yield Remark("dead_letters", each.component, text, do)
            elif each.open:
                text = f"{each.component} has open dead letters: {each.open:,}"
                yield Remark("dead_letters", each.component, text, do)

    def _notes(self, facts: FlowFacts) -> Iterator[Remark]:
        for what, group in facts.groups.items():
            if group.state == "rebalancing" and not self.is_patient:
                yield Remark("rebalancing", what, f"the group of {what} is being rebalanced")
        for waiting in facts.waiting:
            least = "" if waiting.is_exact else "at least "
            text = f"{waiting.subscription}: {least}{waiting.events:,} wait to be tried again"
            yield Remark("waiting", waiting.subscription, text)
        for source in facts.sources:
            name = source["source"]
            if source["is_paused"]:
                do = self._command("sources resume", name)
                yield Remark("paused", name, f"source {name} is paused", do)
            if not source["is_in_program"]:
                yield Remark("other_program", name, f"source {name} is not in this program")
        for event in facts.events:
            if silent := [p for p in event.partitions if p.has_leader and p.end is None]:
                text = f"the brokers tell nothing of {_places(event, silent)}"
                yield Remark("unknown", event.event, text, "look again, then at the brokers")


def reasons(facts: FlowFacts) -> Iterator[str]:
    """Yield what is wrong, a line each; or that nothing is."""
    if facts.is_well:
        yield f"flow {facts.flow} is well"
    for trouble in facts.troubles:
        yield f"{trouble.kind}: {trouble.text}{f'; {trouble.next}' if trouble.next else ''}"


def _missing(event: EventFacts, facts: FlowFacts) -> Iterator[Remark]:
    text = f"topic {event.topic} does not exist, or may not be seen by this client"
    if event.is_foreign:
        yield Remark("missing", event.event, text, "have it made, or correct its name")
    elif facts.workers:
        yield Remark("missing", event.event, text, "start the workers again: they make it")


def _unowned(event: EventFacts, facts: FlowFacts) -> Iterator[Remark]:
    group = facts.groups.get("events")
    unowned = [p for p in event.partitions if p.owner is None]
    if unowned and group is not None and group.state == "stable":
        text = f"no worker has {_places(event, unowned)}"
        do = "a new one is taken within a minute; then start workers again that do not know it"
        yield Remark("not_owned", event.event, text, do)


def _gone(event: EventFacts) -> Iterator[Remark]:
    if gone := [p for p in event.partitions if p.lost]:
        lost = sum(p.lost for p in gone)
        text = (
            f"{_places(event, gone)}: up to {lost:,} events were deleted before they were handled"
        )
        yield Remark("lost", event.event, text, "raise retention.ms of the topic, or add workers")
    if beyond := [p for p in event.partitions if p.is_beyond]:
        text = f"{_places(event, beyond)} ends before what the flow has handled"
        do = "it was made anew, or brokers have lost its end; the flow reads it from its beginning"
        yield Remark("beyond", event.event, text, do)


def _waiting(facts: FlowFacts) -> Iterator[Remark]:
    for place in facts.full_partitions:
        text = f"so many events of {place} wait to be tried again that no more are fetched"
        do = "look why they fail: the log of its worker names the error"
        yield Remark("waiting_full", place, text, do)


def _places(event: EventFacts, partitions: list[PartitionFacts]) -> str:
    """Return which partitions of an event are meant."""
    if len(partitions) == len(event.partitions):
        return f"topic {event.topic}"
    return f"{event.topic}[{', '.join(str(each.partition) for each in partitions)}]"
