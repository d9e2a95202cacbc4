"""Events: what lasts, made of decisions that flicker.

A rule names labels. Its event begins (``new``) when they have been as sure as `Rule.enter` for `Rule.hold_ns`, is
told of again (``update``) when its label or its confidence has moved, and ends (``end``) when they have been less sure
than `Rule.leave` for as long; two thresholds apart, so that what lies between them changes nothing (a Schmitt trigger,
Schmitt 1938). After an end the rule rests for `Rule.cooldown_ns`, and only then begins to look again: between an end
and the next ``new`` of a rule lie at least both.

Pure: no clock, no I/O; time is that of the windows. The same decisions give the same events, with the same ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from agent.types import Decision

STEP = 0.1
"""A confidence that has moved this far since it was told last is worth an update."""


class Kind(StrEnum):
    """What an event says of itself."""

    NEW = "new"
    UPDATE = "update"
    END = "end"


class Why(StrEnum):
    """Why an event has ended."""

    GONE = "gone"
    """Its labels were less sure than `Rule.leave`."""
    UNHEARD = "unheard"
    """Nothing was sure enough, or there were no windows, for longer than `Rule.grace_ns`."""
    RULE = "rule"
    """Its rule was changed or taken away."""
    STOPPED = "stopped"
    """The agent stops."""


@dataclass(frozen=True, slots=True)
class Rule:
    """When an event begins and ends."""

    name: str
    labels: tuple[str, ...]
    """Taken together: their probabilities are added."""
    enter: float
    """0..1, at least `leave`."""
    leave: float
    hold_ns: int
    cooldown_ns: int
    grace_ns: int
    """For how long it is no news that decisions abstain or do not come."""

    def confidence(self, decision: Decision) -> float | None:
        """How sure a decision is of the labels; None where it abstains."""
        if decision.abstained:
            return None
        return min(1.0, sum(decision.probabilities[label] for label in self.labels))

    def label(self, decision: Decision) -> str:
        """The most probable of the labels."""
        return max(self.labels, key=lambda label: decision.probabilities[label])


@dataclass(frozen=True, slots=True)
class Event:
    """One message about one event."""

    kind: Kind
    id: str
    """The same from ``new`` to ``end``; unique over sessions, and the same in every replay of one."""
    rule: str
    label: str
    """The most probable of the rule's labels; at the end, the last one that was known."""
    confidence: float
    """How sure its labels are, 0..1; at the end, the last that was known."""
    peak: float
    """The highest confidence so far."""
    since_ns: int
    """End of the window with which it began to hold."""
    at_ns: int
    """End of the window that says so."""
    decision: str
    """Id of that decision."""
    why: Why | None = None
    """Of an end."""


@dataclass(slots=True)
class _Lasting:
    """An event that goes on."""

    id: str
    label: str
    confidence: float
    peak: float
    since_ns: int
    told_ns: int
    told: tuple[str, float]
    """Label and confidence when it was told of last."""
    fading_ns: int | None = None
    """End of the first window of those, in a row, that were less sure than `Rule.leave`."""


@dataclass(slots=True)
class _Track:
    """Where a rule stands."""

    rule: Rule
    heard_ns: int | None = None
    """End of the last window that did not abstain."""
    held_ns: int | None = None
    """End of the first window of those, in a row, that were sure enough to begin."""
    rests_until_ns: int | None = None
    lasting: _Lasting | None = None

    def update(self, decision: Decision, hop_ns: int) -> Iterable[Event]:
        """Take in a decision."""
        now_ns, confidence = decision.end_ns, self.rule.confidence(decision)
        if self.heard_ns is not None:
            unheard_ns = now_ns - self.heard_ns - (0 if confidence is None else hop_ns)
            if unheard_ns > self.rule.grace_ns:
                self.held_ns = None
                if self.lasting:
                    yield self.end(Why.UNHEARD, now_ns, decision.id)
        if confidence is None:
            return
        self.heard_ns = now_ns
        if self.lasting:
            yield from self._go_on(self.lasting, decision, confidence)
        elif self.rests_until_ns is None or now_ns >= self.rests_until_ns:
            yield from self._look(decision, confidence)

    def _look(self, decision: Decision, confidence: float) -> Iterable[Event]:
        if confidence < self.rule.enter:
            self.held_ns = None
            return
        now_ns = decision.end_ns
        if self.held_ns is None:
            self.held_ns = now_ns
        if now_ns - self.held_ns >= self.rule.hold_ns:
            label, name = self.rule.label(decision), f"{decision.session}-{self.rule.name}-{decision.seq}"
            self.lasting = _Lasting(
                name, label, confidence, confidence, self.held_ns, told_ns=now_ns, told=(label, confidence)
            )
            self.held_ns = None
            yield self._said(self.lasting, Kind.NEW, now_ns, decision.id)

    def _go_on(self, event: _Lasting, decision: Decision, confidence: float) -> Iterable[Event]:
        now_ns = decision.end_ns
        event.label, event.confidence = self.rule.label(decision), confidence
        event.peak = max(event.peak, confidence)
        if confidence < self.rule.leave:
            event.fading_ns = now_ns if event.fading_ns is None else event.fading_ns
            if now_ns - event.fading_ns >= self.rule.hold_ns:
                yield self.end(Why.GONE, now_ns, decision.id)
            return
        event.fading_ns = None
        label, told = event.told
        moved = event.label != label or abs(confidence - told) >= STEP
        if moved and now_ns - event.told_ns >= self.rule.hold_ns:
            event.told, event.told_ns = (event.label, confidence), now_ns
            yield self._said(event, Kind.UPDATE, now_ns, decision.id)

    def end(self, why: Why, at_ns: int, decision: str) -> Event:
        """End the event that lasts."""
        event = self.lasting
        assert event is not None, "asked only while one lasts"
        self.lasting, self.rests_until_ns = None, at_ns + self.rule.cooldown_ns
        return self._said(event, Kind.END, at_ns, decision, why)

    def _said(self, event: _Lasting, kind: Kind, at_ns: int, decision: str, why: Why | None = None) -> Event:
        return Event(
            kind=kind,
            id=event.id,
            rule=self.rule.name,
            label=event.label,
            confidence=event.confidence,
            peak=event.peak,
            since_ns=event.since_ns,
            at_ns=at_ns,
            decision=decision,
            why=why,
        )


@dataclass(slots=True)
class Events:
    """Turns decisions into events, rule by rule; give it every decision of a session, in their order."""

    rules: Sequence[Rule]
    hop_ns: int
    """From one window to the next."""
    _tracks: list[_Track] = field(init=False)
    _newest: tuple[int, str] | None = field(init=False, default=None)
    """End and id of the last decision."""

    def __post_init__(self) -> None:
        self._tracks = [_Track(rule) for rule in self.rules]

    def update(self, decision: Decision) -> list[Event]:
        """What the decision begins, changes and ends."""
        self._newest = decision.end_ns, decision.id
        return [event for track in self._tracks for event in track.update(decision, self.hop_ns)]

    def adopt(self, rules: Sequence[Rule]) -> list[Event]:
        """Go by other rules from now on; ends the events of those that are changed or gone, and leaves the others."""
        kept = [track for track in self._tracks if track.rule in rules]
        ended = self._ended([track for track in self._tracks if track.rule not in rules], Why.RULE)
        known = {track.rule: track for track in kept}
        self.rules, self._tracks = rules, [known.get(rule) or _Track(rule) for rule in rules]
        return ended

    def stop(self) -> list[Event]:
        """End all that last."""
        return self._ended(self._tracks, Why.STOPPED)

    def _ended(self, tracks: Iterable[_Track], why: Why) -> list[Event]:
        if self._newest is None:
            return []
        return [track.end(why, *self._newest) for track in tracks if track.lasting]
