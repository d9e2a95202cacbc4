"""The clocks of other hosts, as an agent that takes samples from them knows them. Pure but for the clock it reads.

Who sends samples from afar names its clock in each: the host, and a session that is new at each start of the sender.
Every clock that was heard of lately is probed over MQTT in bursts, as Lab Streaming Layer does. All remote sensors of
an agent share these clocks: sources of one host are placed by one estimate, and stay in step with one another.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.clock import MS, SECOND, Clock, WallClock, rfc3339
from agent.config import Mqtt
from agent.remote.offset import OffsetEstimate, OffsetFilter

BURST = 8
"""Probes a burst, `time_probe_count` of liblsl."""
SPACING_NS = 64 * MS
"""Between probes of a burst, `time_probe_interval` of liblsl: jitter of the network differs from one to the next."""
PAUSE_NS = 5 * SECOND
"""From burst to burst: meanwhile the drift adds at most a millisecond."""
LOST_NS = 5 * SECOND
"""An answer that did not come by then does not count any more."""
FORGET_NS = 30 * SECOND
"""A clock that was not heard of for that long is not probed any more."""
CLOCKS = 32
"""Clocks that are remembered; the one that was not heard of for longest gives way."""


@dataclass(frozen=True, slots=True, order=True)
class ClockId:
    """One remote monotonic clock."""

    host: str
    """One level of an MQTT topic."""
    session: str
    """New at each start of the sender, since a host's clock begins again when it restarts."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One question to one clock."""

    clock: ClockId
    number: int


@dataclass(slots=True)
class _Known:
    """What is known of one clock."""

    heard_ns: int
    due_ns: int
    """When its next probe is due."""
    filter: OffsetFilter = field(default_factory=OffsetFilter)
    sent: int = 0
    answered: int = 0
    impossible: int = 0


class RemoteClocks:
    """Which clocks there are, when each is to be probed, and where each stands."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[ClockId, _Known] = {}
        self._waiting: dict[int, tuple[ClockId, int]] = {}  # by number: the clock, and when it was sent
        self._number = random.getrandbits(32)  # an answer to the last run of this agent is none to this one

    def hear(self, clock: ClockId) -> bool:
        """Take note that something came from that clock; true when it is due to be probed from now on."""
        now_ns = self._clock.now_ns()
        known = self._known.get(clock)
        if known is None:
            if len(self._known) >= CLOCKS:
                del self._known[min(self._known, key=lambda other: self._known[other].heard_ns)]
            self._known[clock] = _Known(heard_ns=now_ns, due_ns=now_ns)
            return True
        woken = now_ns - known.heard_ns > FORGET_NS
        known.heard_ns = now_ns
        return woken

    def offset(self, clock: ClockId) -> OffsetFilter | None:
        """How that clock stands to ours; None before the first answer."""
        known = self._known.get(clock)
        return known.filter if known is not None and known.filter.ready else None

    def due_ns(self) -> int | None:
        """When the next probe is due; None when there is nobody to probe."""
        now_ns = self._clock.now_ns()
        return min((k.due_ns for k in self._known.values() if now_ns - k.heard_ns <= FORGET_NS), default=None)

    def probe(self) -> Probe | None:
        """The probe that is due, if one is. It has its first stamp: send it at once."""
        now_ns = self._clock.now_ns()
        for number, (_, sent_ns) in list(self._waiting.items()):
            if now_ns - sent_ns <= LOST_NS:
                break
            del self._waiting[number]
        for clock, known in self._known.items():
            if known.due_ns <= now_ns and now_ns - known.heard_ns <= FORGET_NS:
                known.sent += 1
                known.due_ns = now_ns + (SPACING_NS if known.sent % BURST else PAUSE_NS)
                self._number += 1
                self._waiting[self._number] = clock, self._clock.now_ns()
                return Probe(clock, self._number)
        return None

    def answer(self, probe: Probe, t1_ns: int, t2_ns: int, *, arrival_ns: int) -> bool:
        """Take in an answer; true when there is something new to say of the clock: at first, and once a burst.

        One to no probe that waits (it is late, comes again, or was made up) changes nothing: every sensor hears the
        answers to all. One whose stamps contradict one another is counted as ``impossible``.
        """
        sent = self._waiting.get(probe.number)
        known = self._known.get(probe.clock)
        if sent is None or known is None or sent[0] != probe.clock:
            return False
        del self._waiting[probe.number]
        restarts = known.filter.restarts
        if not known.filter.add(sent[1], t1_ns, t2_ns, arrival_ns):
            known.impossible += 1
            return False
        known.answered += 1
        return known.answered == 1 or known.answered % BURST == 0 or known.filter.restarts > restarts

    def estimates(self) -> dict[ClockId, OffsetEstimate]:
        """Where the clocks that were heard of lately stand now."""
        now_ns = self._clock.now_ns()
        return {
            clock: known.filter.at(now_ns)
            for clock, known in self._known.items()
            if known.filter.ready and now_ns - known.heard_ns <= FORGET_NS
        }

    def uncertainty_ms(self) -> dict[str, float]:
        """For the metrics: by host, of the clock that was heard of last."""
        newest = sorted(self.estimates().items(), key=lambda item: self._known[item[0]].heard_ns)
        return {clock.host: round(estimate.uncertainty_ns / MS, 3) for clock, estimate in newest}

    def report(self, clock: ClockId, wall: WallClock) -> Mapping[str, object]:
        """What ``<base>/<node>/clock/<host>`` says of a clock that has answered."""
        known = self._known[clock]
        now_ns = self._clock.now_ns()
        estimate, (drift, unsure) = known.filter.at(now_ns), known.filter.drift
        return {
            "schema": 1,
            "host": clock.host,
            "clock": clock.session,
            "time": rfc3339(wall.wall_ns(now_ns)),
            "offset_ns": str(estimate.offset_ns),
            "offset_ms": round(estimate.offset_ns / MS, 3),
            "uncertainty_ms": round(estimate.uncertainty_ns / MS, 3),
            "rtt_ms": round(estimate.rtt_ns / MS, 3),
            "drift_ppm": round(drift * 1e6, 1),
            "drift_uncertainty_ppm": round(unsure * 1e6, 1),
            "probes": known.sent,
            "answered": known.answered,
            "impossible": known.impossible,
            "restarts": known.filter.restarts,
        }


@dataclass(frozen=True, slots=True)
class Listening:
    """What remote sensors need to take in samples: the broker, under whose name, and the clocks that they share."""

    settings: Mqtt
    node: str
    """The agent's own: samples for it come on ``<base>/<node>/remote/<source>``."""
    clock: Clock
    wall: WallClock
    clocks: RemoteClocks

    @classmethod
    def of(cls, settings: Mqtt, *, node: str, clock: Clock, wall: WallClock) -> Listening:
        """With no clock known yet."""
        return cls(settings, node, clock, wall, RemoteClocks(clock))

    @property
    def root(self) -> str:
        """The first two levels of every topic."""
        return f"{self.settings.base}/{self.node}"
