"""The soak in seconds, in processes of their own: what the tests before left in this one would blur the figures."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.outside import ROOT
from tests.soak.__main__ import grew
from tests.soak.usage import Trend, Usage, after


def looks(folder: Path, warm: int, *words: str) -> list[Usage]:
    """What was held after the first ``warm`` seconds."""
    file = folder / "looks.jsonl"
    command = [sys.executable, "-m", "tests.soak", "--looks", str(file), "--warm", str(warm), *words]
    # The bounds of the long form are too narrow for so short a run, so that its verdict is of no interest here.
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode in (0, 1), ended.stderr
    return after([Usage(**json.loads(line)) for line in file.read_text().splitlines()], warm)


def test_twenty_minutes_of_an_endless_session_leave_nothing_behind(tmp_path: Path) -> None:
    steady = looks(tmp_path, 600, "virtual", "--hours", "0.34")
    assert len(steady) >= 10
    assert {look.threads for look in steady} == {steady[0].threads}
    assert {look.files for look in steady} == {steady[0].files}
    assert steady[-1].rss_mib - steady[0].rss_mib < 2, "meanwhile come 36,000 samples"


def test_a_camera_that_goes_again_and_again_leaves_nothing_behind(tmp_path: Path) -> None:
    steady = looks(tmp_path, 20, "reconnects", "--times", "60")
    assert len(steady) == 5
    assert min(look.threads for look in steady[-2:]) <= max(look.threads for look in steady[:3]), (
        "60 more if each stayed"
    )
    assert min(look.files for look in steady[-2:]) <= max(look.files for look in steady[:3])
    assert steady[-1].rss_mib - steady[0].rss_mib < 4, "a decoder each that is kept would be more"


@pytest.mark.parametrize("grows_mib_per_h", [0.0, 1.0, -3.0])
def test_a_trend_is_found_in_noise(grows_mib_per_h: float) -> None:
    seen = [Usage(s, 100 + grows_mib_per_h * s / 3600 + (s % 7) / 10, 3, 9) for s in range(0, 7200, 2)]
    assert Trend.of(seen).mib_per_h == pytest.approx(grows_mib_per_h, abs=0.01)


@pytest.mark.parametrize(
    ("mib_per_h", "threads", "said"), [(0.0, 0, ""), (30.0, 0, "memory grew"), (0.0, 1, "threads grew")]
)
def test_what_grew_is_said(mib_per_h: float, threads: int, said: str) -> None:
    """Ten minutes, with 4 MiB that come and go."""
    seen = [Usage(s, 100 + mib_per_h * s / 3600 + s % 38 / 9, 3 + threads * (s > 400), 9) for s in range(0, 600, 2)]
    assert grew(seen, most=1.0) == said
