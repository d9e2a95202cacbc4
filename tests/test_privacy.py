"""A purpose is stated, prohibited places are refused, and raw media stays where it is."""

import argparse
import json
from pathlib import Path

import pytest

from agent.check import check_privacy
from agent.config import Config, ConfigError, load
from agent.control.privacy import NOTICE, PROHIBITED, Outlet, for_demonstration, may_leave, remind, require_lawful
from sensors.verbs import send
from tests.mosquitto import free_port, mosquitto
from tests.outside import ROOT, agent, launch, publish, watching

SENSES = '[sensors.chat]\nkind = "text"\n[agent]\nnode = "box"\nhop = "100 ms"\n'


def configured(*overrides: str) -> Config:
    return load(Path("/dev/null"), overrides)


def refused(config: Config) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        require_lawful(config, said_in=Path("config.toml"))
    return caught.value.lines


def test_the_shipped_config_states_a_purpose_and_lets_nothing_out() -> None:
    shipped = load(ROOT / "config.toml")
    require_lawful(shipped, said_in=Path("config.toml"))
    assert shipped.privacy.purpose == "demonstration"
    assert not shipped.dashboard.wanted(demo=False)
    assert not shipped.record.enabled


def test_without_a_purpose_it_says_what_to_write() -> None:
    (line,) = refused(configured("privacy.raw_media=never"))
    assert '[privacy] purpose = "…"' in line
    (line,) = refused(configured("privacy.purpose=safety", "privacy.place=work"))
    assert "Art. 5(1)(f)" in line
    assert len(refused(configured("privacy.place=work"))) == 2
    assert for_demonstration(configured()).privacy.purpose == "demonstration"
    assert for_demonstration(configured("privacy.purpose=a fair")).privacy.purpose == "a fair"


@pytest.mark.parametrize("place", ["home", "public", "vehicle", "care", "research", *PROHIBITED])
def test_only_an_exemption_opens_a_prohibited_place_and_not_quietly(
    place: str, caplog: pytest.LogCaptureFixture
) -> None:
    stated = ["privacy.purpose=to see whether the driver is well", f"privacy.place={place}"]
    if place in PROHIBITED:
        assert "privacy.place" in refused(configured(*stated))[0]
        stated.append("privacy.exemption=safety: a driver's fatigue")
    require_lawful(configured(*stated), said_in=Path("config.toml"))
    warned = [record for record in caplog.records if record.levelname == "WARNING"]
    assert bool(warned) == (place in PROHIBITED)
    assert all("safety: a driver's fatigue" in record.getMessage() for record in warned)


@pytest.mark.parametrize("fault", ["privacy.purpose=' '", "privacy.place=office", "privacy.exemption=''"])
def test_a_word_that_says_nothing_is_refused(fault: str) -> None:
    with pytest.raises(ConfigError):
        configured(fault)


@pytest.mark.parametrize("outlet", Outlet)
def test_never_means_never(outlet: Outlet) -> None:
    everything = ("dashboard.enabled=true", "dashboard.preview=true", "record.enabled=true")
    assert may_leave(configured(*everything), outlet)
    assert not may_leave(configured(*everything, "privacy.raw_media=never"), outlet)
    assert may_leave(configured("dashboard.preview=false"), outlet) == (outlet is not Outlet.DASHBOARD)


def test_check_says_what_is_stated_or_what_is_missing() -> None:
    assert check_privacy(configured("privacy.purpose=a fair")).said.startswith("a fair; ")
    missing = check_privacy(configured("privacy.place=work"))
    assert not missing.ok
    assert "privacy.purpose: is missing" in missing.said
    assert "privacy.place: found 'work'" in missing.said


def test_the_notice_is_there_in_two_languages() -> None:
    notice = (ROOT / NOTICE).read_text(encoding="utf-8")
    assert "## Notice" in notice
    assert "## 告示" in notice


def test_a_file_without_the_table_is_a_demonstration_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    require_lawful(configured(), said_in=Path("config.toml"))
    with caplog.at_level("WARNING"):
        remind(configured(), ROOT)
        assert "has no [privacy]" in caplog.text
        caplog.clear()
        remind(configured("privacy.purpose=a fair"), ROOT)
        assert not caplog.records


async def test_a_run_without_a_purpose_ends_with_2_and_says_all_that_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f'{SENSES}[privacy]\nplace = "education"\n')
    code, output = await launch("--config", str(path))
    assert code == 2
    assert "privacy.purpose: is missing" in output
    assert "privacy.place: found 'education'" in output


def test_nothing_is_sent_where_raw_media_never_leaves(capsys: pytest.CaptureFixture[str]) -> None:
    config = configured("sensors.microphone.kind=microphone", "mqtt.broker=mqtt://127.0.0.1", "privacy.raw_media=never")
    asked = argparse.Namespace(config=Path("config.toml"), node="hub")
    assert send(config, asked, opened=lambda tables, listening: pytest.fail("opened")) == 2
    assert 'raw_media = "never"' in capsys.readouterr().err


async def test_purpose_and_pause_are_published_and_a_pause_hears_nothing(tmp_path: Path) -> None:
    port, path = free_port(), tmp_path / "config.toml"
    path.write_text(
        f'{SENSES}[mqtt]\nbroker = "mqtt://127.0.0.1:{port}"\nmetrics_every = "200 ms"\n'
        '[privacy]\npurpose = "to show a pause"\nplace = "work"\nexemption = "outside the EU"\n'
        '[events.said]\nlabel = "happy"\nconfidence = 0.4\nfor = "0 s"\ngrace = "300 ms"\n'
    )
    async with (
        mosquitto(port, tmp_path),
        watching(port) as watcher,
        agent("--config", str(path)) as process,
    ):
        status = (await watcher.until(lambda message: message.topic == "attune/box/status")).json
        assert {name: value for name, value in status.items() if name not in ("since", "node", "instance")} == {
            "schema": 1, "paused": False, "recording": False, "purpose": "to show a pause", "place": "work",
            "exemption": "outside the EU",
        }  # fmt: skip
        state = await watcher.until(lambda message: message.topic == "attune/box/state")
        assert state.json["purpose"] == "to show a pause"
        await publish(port, "attune/box/text/in", "I am so happy to see you!")
        new = (await watcher.until(lambda message: message.topic == "attune/box/event")).json
        assert (new["type"], new["rule"], new["label"]) == ("new", "said", "happy")

        known = len(watcher.seen)
        await publish(port, "attune/box/cmd/pause", "ON")
        paused = await watcher.until(lambda message: '"paused":true' in message.payload, after=known)
        assert paused.json["since"] > status["since"]
        await watcher.until_decision(lambda decision: decision["missing"].get("text") == "disabled", after=known)
        standing = await watcher.until(lambda message: message.topic == "attune/box/modality/text", after=known)
        assert standing.json["state"] == "disabled"
        end = (await watcher.until(lambda message: '"type":"end"' in message.payload, after=known)).json
        assert (end["id"], end["reason"]) == (new["id"], "unheard")
        await publish(port, "attune/box/text/in", "I am so very angry with you!")
        await watcher.until(lambda message: '"text.paused":1' in message.payload, after=known)

        known = len(watcher.seen)
        await publish(port, "attune/box/cmd/pause", "OFF")
        await watcher.until(lambda message: '"paused":false' in message.payload, after=known)
        await watcher.until_decision(lambda decision: decision["missing"].get("text") == "silent", after=known)
        heard = [d for d in watcher.decisions() if "text" in d["modalities"]]
        assert {d["modalities"]["text"]["label"] for d in heard} == {"happy"}
        process.terminate()
        output = (await process.communicate())[0].decode()
    assert "prohibited in the European Union" in output
    assert str(NOTICE) in output


async def test_an_event_that_lasts_when_the_agent_stops_is_ended(tmp_path: Path) -> None:
    """The next run tells of it, if this one no longer could."""
    port, path = free_port(), tmp_path / "config.toml"
    path.write_text(
        f'{SENSES}[mqtt]\nbroker = "mqtt://127.0.0.1:{port}"\n'
        '[events.said]\nlabel = "happy"\nconfidence = 0.4\nfor = "0 s"\n'
    )
    async with mosquitto(port, tmp_path), watching(port) as watcher:
        async with agent("--config", str(path)):
            await watcher.until(lambda message: message.payload == "online")
            await publish(port, "attune/box/text/in", "I am so happy to see you!")
            new = await watcher.until(lambda message: '"type":"new"' in message.payload)
        async with agent("--config", str(path)):
            end = await watcher.until(lambda message: '"type":"end"' in message.payload)
    assert (end.json["id"], end.json["reason"]) == (new.json["id"], "stopped")
    assert json.loads(end.payload)["since"] == new.json["since"]
