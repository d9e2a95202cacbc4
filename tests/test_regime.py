"""What windows are decided by, while the config is read anew: which head and budget rule when."""

from __future__ import annotations

from agent.clock import MS
from agent.config import Config
from agent.deciding.budget import Budget
from agent.deciding.build import build_head
from agent.deciding.regime import Regime
from agent.health.metrics import Metrics
from agent.types import Modality

SPANS_NS = dict.fromkeys(Modality, 1000 * MS)


def test_what_is_adopted_rules_from_the_next_change_over_on() -> None:
    one, other = build_head(Config()), build_head(Config.model_validate({"fusion": {"rule": "mean"}}))
    regime = Regime(one, None, Metrics())
    regime.adopt(other, None)
    assert regime.head is one
    regime.change_over()
    assert regime.head is other


def test_a_budget_that_is_adopted_is_told_of_at_once_and_what_it_measures_from_the_change_on() -> None:
    metrics, budget = Metrics(), Budget(20 * MS, SPANS_NS)
    regime = Regime(build_head(Config()), None, metrics)
    regime.adopt(regime.head, budget)
    told = [regime.budget]
    assert "budget" not in metrics.snapshot({})
    regime.change_over()
    assert metrics.snapshot({})["budget"] == budget.reading()
    regime.adopt(regime.head, None)
    regime.change_over()
    assert [*told, regime.budget] == [budget, None]
    assert "budget" not in metrics.snapshot({})
