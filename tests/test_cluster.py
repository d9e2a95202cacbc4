"""`replay --ray`: many sessions on a real Ray of this machine, each into a Parquet file."""

import json
from pathlib import Path

import pytest
from pyarrow import parquet

import launch as program
from agent.process import DONE, FAILED, WRONG
from tests.mosquitto import free_port

WORDS = ("I love this, thank you!", "This is awful, go away.", "I am so sad today.")


@pytest.fixture
def sessions(tmp_path: Path) -> list[Path]:
    """Three sessions of text alone, of which the second is damaged."""
    folders = []
    for number, words in enumerate(WORDS):
        folder = tmp_path / f"session-{number}"
        folder.mkdir()
        line = json.dumps({"t": 0.5, "text": words})
        (folder / "text.jsonl").write_text("not JSON\n" if number == 1 else f"{line}\n")
        (folder / "session.toml").write_text("start = 2026-11-21T10:00:00Z\nduration_s = 2.0\n")
        folders.append(folder)
    return folders


@pytest.mark.timeout(300)  # a Ray of its own comes up, twice
def test_one_damaged_session_holds_up_no_other_and_what_is_done_is_not_done_again(
    sessions: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["replay", *map(str, sessions), "--ray", "--out", str(out)]
    assert program.main(words) == FAILED
    said = capsys.readouterr().out
    assert "text.jsonl, line 1" in said
    assert "2 played, 1 failed" in said
    assert sorted(file.name for file in out.iterdir()) == ["session-0.parquet", "session-2.parquet"]

    lines = tmp_path / "plain.jsonl"
    assert program.main(["replay", str(sessions[0]), "--out", str(lines)]) == DONE
    plain = [json.loads(line) for line in lines.read_text().splitlines()]
    table = parquet.read_table(out / "session-0.parquet")
    assert table["id"].to_pylist() == [decision["id"] for decision in plain]
    assert table["label"].to_pylist() == [decision["label"] for decision in plain]
    assert table["p_happy"].to_pylist() == [decision["probabilities"]["happy"] for decision in plain]
    assert table["vision_missing"].to_pylist() == [decision["missing"]["vision"] for decision in plain]
    ends_ns = [int(decision["window"]["end_ns"]) for decision in plain]
    assert table["window_end"].cast("int64").to_pylist() == ends_ns

    (sessions[1] / "text.jsonl").write_text(json.dumps({"t": 0.5, "text": WORDS[1]}) + "\n")
    kept = (out / "session-0.parquet").stat().st_mtime_ns
    capsys.readouterr()
    assert program.main(words) == DONE
    said = capsys.readouterr().out
    assert "2 of 3 sessions have been played before" in said
    assert "1 played, 0 failed" in said
    assert (out / "session-0.parquet").stat().st_mtime_ns == kept


def test_what_cannot_be_done_is_said_at_once(
    sessions: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    twin = tmp_path / "elsewhere" / sessions[0].name
    twin.mkdir(parents=True)
    nobody = f"127.0.0.1:{free_port()}"
    words = ["replay", str(sessions[0]), str(twin), str(tmp_path / "gone"), "--ray", nobody, "--speed", "1"]
    assert program.main(words) == WRONG
    said = capsys.readouterr().err
    refused = f"--ray {nobody}: [Errno 111]"
    for fault in (
        *("5 faults", refused, "--out DIR", "--speed"),
        *("2 sessions are called session-0", "gone: no such session"),
    ):
        assert fault in said
