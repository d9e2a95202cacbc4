"""What an encoder sees of its window under each policy of ``[align]``."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.clock import MS, VirtualClock
from agent.config import ConfigError, load
from agent.deciding.build import build_pipeline
from agent.deciding.selection import Selection, approximate, exact, first, last, nearest
from agent.playback import play
from agent.types import Absence, Evidence, Modality, Reading, Sample, Source
from tests.samples import frame
from tests.scripted import ScriptedEncoder

EVIDENCE = Reading(Evidence(Modality.VISION, "left", np.full(7, 1 / 7), np.full(7, 1 / 7), 1.0, 0, "none"))


def stereo(left: list[int], right: list[int]) -> list[Sample]:
    """Pictures of two cameras, ends in ms."""
    both = [frame(t * MS, "left") for t in left] + [frame(t * MS, "right") for t in right]
    return sorted(both, key=lambda sample: (sample.end_ns, sample.source))


def seen(selection: Selection, samples: list[Sample]) -> list[tuple[str, int]]:
    return [(sample.source, sample.end_ns // MS) for sample in selection(samples, 100 * MS)]


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (first, [("left", 10), ("right", 12)]),
        (last, [("left", 70), ("right", 90)]),
        (nearest(100 * MS), [("left", 40), ("right", 52)]),
        (exact, [("left", 70), ("right", 70)]),
        (approximate(5 * MS), [("left", 10), ("right", 12), ("left", 70), ("right", 70)]),
    ],
)
def test_of_two_cameras(selection: Selection, expected: list[tuple[str, int]]) -> None:
    assert seen(selection, stereo([10, 40, 70], [12, 52, 70, 90])) == expected


def test_the_newest_match_of_a_window_is_seen() -> None:
    """In a stream (90, 95) would wait for what may come between; in a window nothing comes any more."""
    samples = stereo([30, 60, 90], [35, 65, 95])
    assert list(approximate(5 * MS)(samples, 100 * MS)) == samples
    assert seen(approximate(5 * MS), stereo([30, 90], [35])) == [("left", 30), ("right", 35)]


def test_a_camera_alone_is_seen_whole_by_what_matches_several() -> None:
    """The other one is down: that must not blind this one."""
    alone = stereo([10, 40, 70], [])
    assert list(exact(alone, 100 * MS)) == list(approximate(0)(alone, 100 * MS)) == alone


stamps = st.lists(st.integers(1, 100), unique=True, max_size=12)


@given(stamps, stamps, st.sampled_from([first, last, nearest(100 * MS), exact, approximate(7 * MS)]))
def test_a_selection_is_a_part_in_the_same_order(left: list[int], right: list[int], selection: Selection) -> None:
    samples = stereo(left, right)
    chosen = list(selection(samples, 100 * MS))
    assert chosen == [sample for sample in samples if sample in chosen]


def config(tmp_path: Path, align: str) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(f'[agent]\nhop = "100 ms"\n[align]\n{align}\n')
    return path


async def test_the_config_says_what_the_encoder_sees(tmp_path: Path) -> None:
    """At 1100 ms the window holds 150 of one camera and 151 of the other: nothing that was taken together."""
    encoder = ScriptedEncoder(Modality.VISION, lambda _: EVIDENCE)
    clock = VirtualClock()
    pipeline = build_pipeline(
        load(config(tmp_path, 'vision = "exact"')),
        sources=[Source("left", Modality.VISION), Source("right", Modality.VISION)],
        encoders={Modality.VISION: encoder},
        transcriber=None,
        clock=clock,
        session="s",
    )
    samples = [*stereo([50, 100], [50, 100]), *stereo([150, 1_200], [151, 1_200])]
    decisions = {d.decision.end_ns // MS: d.decision async for d in play(samples, pipeline, clock)}
    pipeline.close()
    assert encoder.shown[0] == (50 * MS, 50 * MS, 100 * MS, 100 * MS)
    assert encoder.shown[-1] == (1_200 * MS, 1_200 * MS)
    assert decisions[1_000].missing.get(Modality.VISION) is None
    assert decisions[1_100].missing[Modality.VISION] is Absence.SILENT
    assert pipeline.metrics.counts["align.vision.unmatched"] == 1


@pytest.mark.parametrize(
    ("align", "named"),
    [('vision = "middle"', "align.vision"), ('audio = "last"', "align.audio"), ('text = "exact"', "align.text")],
)
def test_what_cannot_be_is_refused(tmp_path: Path, align: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        load(config(tmp_path, align))
