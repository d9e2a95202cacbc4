"""The config read again while the agent runs: what can change does, at once and whole; the rest is named."""

import asyncio
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.clock import VirtualClock
from agent.config import Config, load
from agent.control.reload import Reload, changes_live, differences, merge
from agent.deciding.build import build_budget, build_head, build_pipeline
from agent.fusion import TrainedHead
from agent.types import Modality, Reading, Sample, Source, Window
from tests.mosquitto import free_port, mosquitto
from tests.outside import PATIENCE_S, ROOT, agent, watching
from tests.samples import text
from tests.scripted import ScriptedEncoder, happy

CHANGES = {
    "agent.budget": ["agent.budget=10 ms", "agent.budget=20 ms"],
    "agent.hop": ["agent.hop=100 ms", "agent.hop=1 s"],
    "agent.labels": ['agent.labels=["happy", "sad"]'],
    "agent.log_level": ["agent.log_level=DEBUG"],
    "encoders.audio.span": ["encoders.audio.span=2 s"],
    "encoders.text.tau": ["encoders.text.tau=2 s", "encoders.text.tau=3 s"],
    "encoders.vision.reliability": ["encoders.vision.reliability=0.1"],
    "events": ["events.joy.label=happy", 'events.joy={label="happy", for="9 s"}'],
    "fusion.dwell": ["fusion.dwell=0 s"],
    "fusion.rule": ["fusion.rule=mean", "fusion.rule=vote"],
    "fusion.temperature": ["fusion.temperature=2.0", "fusion.temperature=[1.0, 2.0]"],
    "mqtt.base": ["mqtt.base=fleet"],
    "privacy.purpose": ["privacy.purpose=another"],
    "sensors.chat": ["sensors.chat.kind=stdin"],
}
"""By the key that a reply names, ways to change it."""


def configured(*overrides: str) -> Config:
    return load(Path("/dev/null"), overrides)


overrides = st.dictionaries(st.sampled_from(sorted(CHANGES)), st.integers(0, 1), max_size=8).map(
    lambda chosen: [CHANGES[key][n % len(CHANGES[key])] for key, n in chosen.items()]
)


@settings(deadline=None)
@given(overrides, overrides)
def test_what_changes_live_is_taken_over_and_nothing_else(one: list[str], other: list[str]) -> None:
    running, found = configured(*one), configured(*other)
    merged = merge(running, found)
    changed = differences(running, found)
    assert differences(running, merged) == [key for key in changed if changes_live(key)]
    assert sorted(differences(merged, found)) == sorted(key for key in changed if not changes_live(key))
    assert differences(found, found) == []


@pytest.mark.parametrize("key", sorted(CHANGES))
def test_a_change_is_named_as_it_is_written(key: str) -> None:
    for change in CHANGES[key]:
        assert differences(configured(), configured(change)) == [key]


def test_of_a_table_that_both_have_the_key_is_named() -> None:
    joy = 'events.joy={label="happy", for="%s"}'
    assert differences(configured(joy % "1 s"), configured(joy % "2 s")) == ["events.joy.for"]
    chat = 'sensors.chat={kind="text", max_delay="%s"}'
    assert differences(configured(chat % "1 s"), configured(chat % "2 s")) == ["sensors.chat.max_delay"]


class Running:
    """What a reload acts on."""

    def __init__(self, *overrides: str) -> None:
        self.adopted: list[Config] = []
        self.found: list[str] = list(overrides)
        self.reload = Reload(configured(*overrides), read=self.read, learned=lambda config: None, adopt=self.adopt)

    def read(self) -> Config:
        return configured(*self.found)

    def adopt(self, config: Config, learned: TrainedHead | None) -> None:
        build_head(config, learned)  # as the agent does
        self.adopted.append(config)


async def test_a_bad_file_changes_nothing_and_all_its_faults_are_said() -> None:
    running = Running()
    running.found = ["fusion.rule=bays", "fusion.trust=2", "fusion.dwell=5 s"]
    reply = await running.reload()
    assert not reply.ok
    assert "fusion.rule: found 'bays'" in reply.said
    assert "fusion.trust" in reply.said
    assert running.adopted == []
    running.found = ["fusion.rule=learned", "fusion.trust=0.4"]  # a good file, and no trained head to go with it
    reply = await running.reload()
    assert (reply.ok, running.adopted) == (False, [])
    assert "learned needs a trained head" in reply.said
    running.found = ["fusion.trust=0.4"]
    assert (await running.reload()).said == "from the next window on: fusion.trust"


async def test_what_needs_a_restart_is_named_each_time_until_that_is_done() -> None:
    running = Running()
    running.found = ["agent.hop=1 s", "fusion.rule=mean", "sensors.chat.kind=text"]
    reply = await running.reload()
    assert reply.ok
    assert reply.said == "from the next window on: fusion.rule; needs a restart: agent.hop, sensors.chat"
    assert running.adopted[-1].agent.hop == configured().agent.hop
    again = await running.reload()
    assert again.said == "needs a restart: agent.hop, sensors.chat"
    assert len(running.adopted) == 1
    running.found = ["fusion.rule=mean"]
    assert (await running.reload()).said == "nothing in the config has changed"


async def test_a_window_is_decided_by_one_rule_and_what_was_believed_goes_on() -> None:
    """The change comes while a window is being decided."""
    config, clock = configured("sensors.chat.kind=text", 'agent.labels=["neutral", "happy", "sad"]'), VirtualClock()
    changed = merge(config, configured("fusion.rule=mean"))
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()

    class Reader(ScriptedEncoder):
        def encode(self, samples: Sequence[Sample], end_ns: int) -> Reading:
            loop.call_soon_threadsafe(asked.set)
            return super().encode(samples, end_ns)

    pipeline = build_pipeline(
        config,
        sources=[Source("text", Modality.TEXT)],
        encoders={Modality.TEXT: Reader(Modality.TEXT, happy)},
        transcriber=None,
        clock=clock,
        session="s",
    )

    def window(n: int, sample: Sample | None) -> Window:
        end_ns = n * config.agent.hop
        return Window(0, end_ns, end_ns, True, {Modality.TEXT: (sample,)} if sample else {}, {})

    await pipeline.decide(window(1, text(1 * config.agent.hop)))
    asked.clear()
    deciding = asyncio.create_task(pipeline.decide(window(2, text(2 * config.agent.hop))))
    await asked.wait()
    pipeline.adopt(build_head(changed), build_budget(changed))
    before, after = (await deciding).decision, (await pipeline.decide(window(3, None))).decision
    pipeline.close()
    assert (before.rule, after.rule) == ("bayes", "mean")
    assert 1 / 3 < after.probabilities["happy"] < before.probabilities["happy"]  # it fades, and does not start anew


FILE = """
[sensors.chat]
kind = "text"
[agent]
node = "box"
hop = "100 ms"
[privacy]
purpose = "a test"
[mqtt]
broker = "mqtt://127.0.0.1:{port}"
"""


async def ask(port: int, command: str, payload: str = "") -> None:
    """A command over MQTT 5, to be answered on ``answers``."""
    words = ["-V", "5", "-q", "1", "-D", "publish", "response-topic", "answers", "-m", payload]
    topic = f"attune/box/cmd/{command}"
    process = await asyncio.create_subprocess_exec("mosquitto_pub", "-p", str(port), "-t", topic, *words)
    assert await process.wait() == 0


async def test_a_real_process_reads_its_file_again(tmp_path: Path) -> None:
    port, path = free_port(), tmp_path / "config.toml"
    path.write_text(FILE.format(port=port))
    async with (
        mosquitto(port, tmp_path),
        watching(port, "#") as watcher,
        agent("--config", str(path)) as process,
    ):
        first = await watcher.until_decision(lambda decision: decision["rule"] == "bayes")
        path.write_text(FILE.format(port=port) + '[fusion]\nrule = "mean"\n')
        process.send_signal(signal.SIGHUP)
        changed = await watcher.until_decision(lambda decision: decision["rule"] == "mean")
        assert changed["id"].partition("-")[0] == first["id"].partition("-")[0]  # no restart
        path.write_text(FILE.format(port=port) + '[fusion]\nrule = "bayes"\ntrust = 7\n[agnet]\n')
        await ask(port, "reload")
        answer = (await watcher.until(lambda message: message.topic == "answers")).json
        assert not answer["ok"]
        assert "fusion.trust" in answer["said"]
        assert "agnet: unknown key; did you mean agent?" in answer["said"]
        known = len(watcher.seen)
        later = await watcher.until_decision(lambda decision: decision["seq"] > changed["seq"] + 5, after=known)
        assert later["rule"] == "mean"
        path.write_text(FILE.format(port=port).replace("100 ms", "200 ms") + '[fusion]\nrule = "vote"\n')
        await ask(port, "reload")
        answer = (await watcher.until(lambda message: message.topic == "answers", after=known)).json
        assert answer["ok"]
        assert answer["said"] == "from the next window on: fusion.rule; needs a restart: agent.hop"
        await watcher.until_decision(lambda decision: decision["rule"] == "vote", after=known)
        seqs = [decision["seq"] for decision in watcher.decisions()]
        assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))


def test_a_terminal_that_is_closed_ends_the_agent(tmp_path: Path) -> None:
    """Where SIGHUP means that nobody is there any more."""
    path = tmp_path / "config.toml"
    path.write_text(FILE.format(port=1).replace("mqtt://127.0.0.1:1", f"embedded:{free_port()}"))
    ours, theirs = pty.openpty()
    script = (
        "import fcntl, termios, os, sys; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.executable, sys.argv[1:])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, sys.executable, "launch.py", "--config", str(path)],
        cwd=ROOT,
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    ) as process:
        try:
            assert process.stdout
            for line in process.stdout:
                if "sensor chat delivers" in line:
                    break
            process.send_signal(signal.SIGHUP)
            for line in process.stdout:
                if "reload: nothing in the config has changed" in line:  # the terminal is there: it was meant so
                    break
            os.close(theirs)
            os.close(ours)
            rest = process.stdout.read()
            assert process.wait(PATIENCE_S) == 0  # in order, not killed by the signal
            assert "Traceback" not in rest
        finally:
            process.kill()
