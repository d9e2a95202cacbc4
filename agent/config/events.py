"""``[events.<name>]``: what is told of as it begins and ends, beside the decision of each window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from agent.clock import SECOND
from agent.config.scalars import DurationOrZero, Share
from agent.config.table import Table
from agent.events import Rule

NEUTRAL = "neutral"
"""The label that is no event by default."""
LEAVES_AT = 0.75
"""Of ``confidence``: what ``leave`` is where it is not given."""


def _labels(found: object) -> object:
    """One label is a list of one."""
    return (found,) if isinstance(found, str) else found


class Event(Table):
    """``[events.<name>]``."""

    label: Annotated[tuple[str, ...], BeforeValidator(_labels), Field(min_length=1)]
    confidence: Share = 0.6
    leave: Share | None = None
    hold: DurationOrZero = Field(default=1 * SECOND, alias="for")
    cooldown: DurationOrZero = 5 * SECOND
    grace: DurationOrZero = 3 * SECOND

    @model_validator(mode="after")
    def _leaves_below(self) -> Event:
        if self.leave is not None and self.leave > self.confidence:
            raise ValueError(f"leave must not be above confidence; found {self.leave:g} and {self.confidence:g}")
        return self

    def rule(self, name: str) -> Rule:
        """As the rule of that name."""
        return Rule(
            name=name,
            labels=self.label,
            enter=self.confidence,
            leave=LEAVES_AT * self.confidence if self.leave is None else self.leave,
            hold_ns=self.hold,
            cooldown_ns=self.cooldown,
            grace_ns=self.grace,
        )


def rules(events: Mapping[str, Event] | None, labels: Sequence[str]) -> list[Rule]:
    """The rules of the config; None is one for each label but `NEUTRAL`, named after it."""
    if events is None:
        events = {label: Event(label=(label,)) for label in labels if label != NEUTRAL}
    return [event.rule(name) for name, event in events.items()]


def unknown_labels(events: Mapping[str, Event] | None, labels: Sequence[str]) -> list[str]:
    """One fault for each label that a rule names and the agent does not have, or names twice."""
    return [
        f"{name}.label: {label!r} is named twice"
        if label in labels
        else f"{name}.label: {label!r} is none of the agent's labels: {', '.join(labels)}"
        for name, event in (events or {}).items()
        for label in dict.fromkeys(event.label)
        if label not in labels or event.label.count(label) > 1
    ]
