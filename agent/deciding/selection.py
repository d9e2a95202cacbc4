"""What an encoder sees of its part of a window: all of it, or what a policy of `agent.align` picks out of it.

A selection takes the samples of one modality in a window, sorted by their ends and maybe of several sources, and the
window's end. It looks at no more than these, so that a window gives the same whenever it is cut.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agent.align import ApproximateTime, ExactTime, First, Last, Lookup, Nearest, RelativeWindow, Verdict
from agent.types import Sample

Selection = Callable[[Sequence[Sample], int], Sequence[Sample]]
"""Of the samples of a window that ends at the instant those that the encoder sees, in their order."""

WHOLE = RelativeWindow(None, False, None, False)


def first(samples: Sequence[Sample], end_ns: int) -> Sequence[Sample]:
    """The oldest of each source."""
    return _one_each(samples, First(WHOLE, reproducible=False), end_ns)


def last(samples: Sequence[Sample], end_ns: int) -> Sequence[Sample]:
    """The newest of each source."""
    return _one_each(samples, Last(WHOLE, reproducible=False), end_ns)


def nearest(span_ns: int) -> Selection:
    """Of each source the one that ends nearest to the middle of the ``span_ns`` up to the window's end."""

    def select(samples: Sequence[Sample], end_ns: int) -> Sequence[Sample]:
        return _one_each(samples, Nearest(WHOLE, reproducible=False), end_ns - span_ns // 2)

    return select


def exact(samples: Sequence[Sample], end_ns: int) -> Sequence[Sample]:
    """Those that end at an instant at which one of every source does that has any here."""
    return _matched(samples, lambda sources: ExactTime(sources, 0), over_ns=end_ns + 1)


def approximate(max_interval_ns: int) -> Selection:
    """Those that `ApproximateTime` matches over the sources that have any here, sets not wider than that.

    Nothing of a window comes after its end, so the newest match is not held back for a better one.
    """

    def select(samples: Sequence[Sample], end_ns: int) -> Sequence[Sample]:
        return _matched(
            samples,
            lambda sources: ApproximateTime(sources, len(samples) + 1, max_interval_ns=max_interval_ns),
            over_ns=end_ns + max_interval_ns + 1,
        )

    return select


def _by_source(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    streams: dict[str, list[Sample]] = {}
    for sample in samples:
        streams.setdefault(sample.source, []).append(sample)
    return streams


def _one_each(samples: Sequence[Sample], lookup: Lookup, query_ns: int) -> Sequence[Sample]:
    chosen = set()
    for stream in _by_source(samples).values():
        found = lookup.at(query_ns, [sample.end_ns for sample in stream], stream, closed=True)
        if not isinstance(found, Verdict):
            chosen.add(found)
    return [sample for sample in samples if sample in chosen]


def _matched(
    samples: Sequence[Sample], policy: Callable[[int], ExactTime | ApproximateTime], *, over_ns: int
) -> Sequence[Sample]:
    """What of a stream would come next comes at `over_ns`, too late for any match.

    Only sources that delivered are matched: one that is down must not take the others with it.
    """
    topics = {source: topic for topic, source in enumerate(sorted(_by_source(samples)))}
    if len(topics) < 2:
        return samples
    sets = policy(len(topics))
    found = [found for sample in samples for found in sets.add(topics[sample.source], sample.end_ns, sample)]
    found += [found for topic in topics.values() for found in sets.add(topic, over_ns, None)]
    chosen = {sample for match in found for sample in match}
    return [sample for sample in samples if sample in chosen]
