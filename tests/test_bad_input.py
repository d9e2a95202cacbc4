"""What comes from outside may be anything: a clear error or a counted drop, and the agent goes on."""

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from engines.models import ModelStore
from tests.mosquitto import free_port, mosquitto
from tests.outside import ROOT, agent, launch, publish, watching


async def test_a_config_with_five_faults_gets_five_messages_and_exit_code_2(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        '[agent]\nhop = 250\nlatness = "1 s"\n[sensors.eye]\nkind = "camra"\n[fusion]\nrule = "bays"\n'
        '[mqtt]\nbroker = "localhost"\n'
    )
    code, output = await launch("--config", str(config))
    assert code == 2
    lines = output.splitlines()
    assert lines[0].endswith("config.toml: 5 faults")
    assert [line.split(":")[0].strip() for line in lines[1:]] == [
        "agent.hop", "agent.latness", "sensors.eye.kind", "fusion.rule", "mqtt.broker",
    ]  # fmt: skip


async def test_texts_of_every_bad_kind_are_counted_and_the_next_good_one_is_read(tmp_path: Path) -> None:
    port = free_port()
    config = tmp_path / "config.toml"
    config.write_text(
        f'[agent]\nnode = "n"\n[sensors.chat]\nkind = "text"\n'
        f'[mqtt]\nbroker = "mqtt://127.0.0.1:{port}"\nmetrics_every = "200 ms"\n'
    )
    huge, latin = tmp_path / "huge", tmp_path / "latin"
    huge.write_bytes(b"x" * 10_000_000)
    latin.write_bytes("Grüße".encode("latin-1"))
    old = json.dumps({"text": "I am so happy to see you!", "time": "1970-01-01T00:00:00Z"})
    async with (
        mosquitto(port, tmp_path),
        watching(port, "attune/n/decision") as watcher,
        watching(port, "attune/n/metrics") as metrics,
        agent("--config", str(config)),
    ):
        await metrics.until(lambda message: message.topic.endswith("/metrics"))
        for file in (huge, latin):
            command = ("mosquitto_pub", "-p", str(port), "-q", "1", "-t", "attune/n/text/in", "-f", str(file))
            assert await (await asyncio.create_subprocess_exec(*command)).wait() == 0
        for payload in ('{"text": ', '{"words": "hello"}', "   ", old):
            await publish(port, "attune/n/text/in", payload)
        decision = await watcher.until_decision(lambda decision: decision["label"] == "happy")
        counted = await metrics.until(lambda message: "chat.stamp" in message.payload)
    assert decision["modalities"]["text"]["age_ms"] < 5_000  # a stamp of 1970 is not believed
    dropped = counted.json["dropped"]
    assert dropped == {f"chat.{reason}": 1 for reason in ("size", "utf8", "json", "field", "empty", "stamp")}


async def test_sound_that_is_not_a_number_is_silence(tmp_path: Path) -> None:
    pcm, rate_hz = soundfile.read(ROOT / "sensors" / "demo" / "audio.flac", dtype="float32", frames=5 * 16_000)
    pcm[2 * rate_hz : 3 * rate_hz] = np.nan
    soundfile.write(tmp_path / "audio.wav", pcm, rate_hz, subtype="FLOAT")
    code, output = await launch("replay", str(tmp_path), "--out", "-", "--log-level", "ERROR")
    assert code == 0, output
    decisions = [json.loads(line) for line in output.splitlines()]
    assert len(decisions) == 10
    assert any("audio" in decision["modalities"] for decision in decisions)


async def test_a_video_that_is_damaged_in_the_middle_is_said_with_exit_code_1_or_read_as_far_as_it_goes(
    tmp_path: Path,
) -> None:
    whole = (ROOT / "sensors" / "demo" / "video.mp4").read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 3 : len(whole) // 2] = bytes(len(whole) // 2 - len(whole) // 3)
    (tmp_path / "video.mp4").write_bytes(damaged)
    code, output = await launch("replay", str(tmp_path), "--out", str(tmp_path / "out"))
    assert "Traceback" not in output
    assert code in (0, 1)
    assert len((tmp_path / "out").read_text().splitlines()) > 10


async def test_a_camera_that_is_a_damaged_file_fails_and_the_agent_goes_on(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "broken.mp4").write_bytes(b"not a film" * 1000)
    config = tmp_path / "config.toml"
    config.write_text(
        f'[agent]\nnode = "n"\n[sensors.eye]\nkind = "camera"\ndevice = "{tmp_path}/broken.mp4"\n'
        f'[sensors.chat]\nkind = "text"\n[mqtt]\nbroker = "mqtt://127.0.0.1:{port}"\n'
    )
    async with mosquitto(port, tmp_path), watching(port) as watcher, agent("--config", str(config)) as process:
        await watcher.until_decision(lambda decision: decision["missing"].get("vision") == "failed")
        await publish(port, "attune/n/text/in", "I am so happy to see you!")
        await watcher.until_decision(lambda decision: "text" in decision["modalities"])
        process.terminate()
        output, _ = await process.communicate()
    assert b"broken.mp4" in output


async def test_a_model_file_with_another_hash_is_refused(tmp_path: Path) -> None:
    cache = tmp_path / "models"
    shutil.copytree(ModelStore().cache, cache)
    victim = cache / "voice-activity.onnx"
    victim.write_bytes(victim.read_bytes()[:-1] + b"\0")
    code, output = await launch("replay", "demo", "--set", f"models.cache={cache}")
    assert code == 1
    assert "voice-activity" in output
    assert "python launch.py models fetch" in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    "override",
    [
        'agent.labels=["joy", "anger"]',
        'encoders.text.labels={happy = "joy"}',
        'encoders.vision.labels={hapy = "happy"}',
    ],
)
async def test_labels_that_no_model_has_are_said(override: str) -> None:
    for words in (("replay", "demo"), ("demo", "--once", "--set", f"mqtt.broker=embedded:{free_port()}")):
        code, output = await launch(*words, "--set", override, "--log-level", "ERROR")
        assert code == 1
        assert output.startswith("labels: ")
        assert "the agent" in output
        assert len(output.splitlines()) == 1


async def test_options_count_before_the_verb_and_after_it(tmp_path: Path) -> None:
    config = tmp_path / "mine.toml"
    config.write_text("")
    before = ("--set", "fusion.rule=nonsense", "--config", str(config), "--log-level", "ERROR")
    code, output = await launch(*before, "replay", "demo", "--set", "agent.hop=1 ms")
    assert code == 2
    assert output.startswith(f"{config}: 2 faults")
    assert "fusion.rule: found 'nonsense'" in output
    assert "agent.hop: must be from" in output
    code, output = await launch("--set", "fusion.rule=nonsense", "devices", "--set", "fusion.rule=max")
    assert code == 0, output  # the later one wins


@pytest.mark.parametrize("speed", ["nan", "0", "-1", "inf", "1e-300", "fast"])
async def test_a_speed_that_is_none_is_a_usage_error(speed: str) -> None:
    code, output = await launch("replay", "demo", f"--speed={speed}")
    assert code == 2
    assert f"argument --speed: must be \"max\" or a factor from 0.001, such as 1 or 0.5; found '{speed}'" in output


async def test_two_sensors_that_feed_one_source_are_refused(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        f'[sensors.recorded]\nkind = "replay"\nsession = "{ROOT}/sensors/demo"\n'
        '[sensors.camera]\nkind = "camera"\ndevice = "0"\n'
    )
    code, output = await launch("--config", str(config))
    assert code == 2
    assert output.splitlines() == [
        f"{config}: 1 fault",
        "  [sensors.recorded] and [sensors.camera] feed one source, camera;"
        " rename [sensors.camera], for instance to [sensors.camera-2]",
    ]
    config.write_text("".join(
        f'[sensors.{name}]\nkind = "replay"\nsession = "{ROOT}/sensors/demo"\n' for name in ("one", "two")
    ))  # fmt: skip
    code, output = await launch("--config", str(config))
    assert code == 2
    assert output.count("a recorded session names its sources itself, so keep one of them") == 3


@pytest.mark.parametrize("words", [("--out", "-"), ()])
def test_a_reader_that_has_enough_is_no_error(words: tuple[str, ...]) -> None:
    command = (sys.executable, "launch.py", "replay", "demo", *words, "--log-level", "ERROR")
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


async def test_an_out_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    code, output = await launch("replay", "demo", "--out", str(tmp_path), "--log-level", "ERROR")
    assert (code, output) == (1, f"--out {tmp_path}: cannot be written: Is a directory\n")


async def test_help_explains_every_verb() -> None:
    code, output = await launch("--help")
    assert code == 0
    for verb in ("run", "demo", "check", "devices", "models", "replay"):
        assert verb in output
