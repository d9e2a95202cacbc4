from pathlib import Path

import pytest

from agent.clock import MS, SECOND
from agent.config import CameraSensor, ConfigError, MicrophoneSensor, StdinSensor, TextSensor, load, prior_of
from agent.deciding.pipeline import SPEECH
from agent.delivery.policy import Delivery, Latest, MaxAge, NeverDrop, Queue, Throttle
from sensors.video import Kind, kind_of

ROOT = Path(__file__).parent.parent


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(text, encoding="utf-8")
    return path


def faults(path: Path, *overrides: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load(path, overrides)
    return caught.value.lines


def test_an_empty_file_means_the_documented_defaults(tmp_path: Path) -> None:
    config = load(written(tmp_path, ""))
    assert config.agent.hop == 500 * MS
    assert config.mqtt.broker == "embedded"
    assert config.fusion.rule == "bayes"
    assert sum(prior_of(config.agent).values()) == pytest.approx(1)


def test_the_shipped_config_is_valid_and_says_the_defaults() -> None:
    shipped = load(ROOT / "config.toml")
    assert {table.kind for table in shipped.sensors.values()} == {"camera", "microphone", "text"}
    bare = type(shipped)()
    for table in ("agent", "encoders", "fusion", "mqtt", "models"):
        assert getattr(shipped, table) == getattr(bare, table), f"[{table}] differs from the defaults in the code"


def test_five_faults_give_five_messages(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """
        [agent]
        hop = 250
        latness = "1 s"
        [sensors.eye]
        kind = "camra"
        [fusion]
        rule = "bays"
        [mqtt]
        broker = "localhost"
        """,
    )
    lines = faults(path)
    assert len(lines) == 5
    assert lines[0].startswith("agent.hop: a duration is a string with a number and a unit")
    assert "agent.latness: unknown key; did you mean lateness?" in lines
    assert "sensors.eye.kind: found 'camra'; one of 'camera', 'microphone'" in lines[2]
    assert (
        lines[3]
        == "fusion.rule: found 'bays'; must be one of bayes, mean, max, vote, dempster, fuzzy, learned, feature, hybrid"
    )
    assert lines[4].startswith('mqtt.broker: must be "embedded", "embedded:PORT", "mqtt://')


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[sensors.mic]\nkind = 'microphone'\ndevise = 'x'", "sensors.mic.devise: unknown key; did you mean device?"),
        ("[sensors.eye]\nkind = 'camera'", "sensors.eye.device: is missing, and has no default"),
        ("[sensors.eye]\ndevice = '0'", "sensors.eye.kind: is missing; one of camera, microphone, text, stdin, replay"),
        ("[encoders.visoin]", "encoders.visoin: unknown key; did you mean vision?"),
        ("[agent]\nprior = [1, 2]", 'agent.prior: must be "uniform" or 7 numbers from 1e-6 to 1e6, one a label; f'),
        ("[agent]\nprior = [inf, 1, 1, 1, 1, 1, 1]", 'agent.prior: must be "uniform" or 7 numbers from 1e-6 to 1e6'),
        ("[agent]\nprior = 'unform'", 'agent.prior: must be "uniform" or 7 numbers from 1e-6 to 1e6'),
        ("[agent]\nhop = '10 ms'", 'agent.hop: must be from "20 ms" to "365 d"; found "10 ms"'),
        (f"[agent]\nlateness = '{'9' * 400} s'", "agent.lateness: a duration of that size is beyond all bounds"),
        ("[encoders.vision]\nspan = '61 s'", 'encoders.vision.span: must be from "1 ns" to "60 s"; found "61 s"'),
        ("[encoders.audio]\nspan = '11 s'", 'encoders.audio.span: must be from "1 ns" to "10 s"; found "11 s"'),
        (
            "[encoders.audio]\nreliability = nan",
            "encoders.audio.reliability: input should be a finite number; found nan",
        ),
        ("[sensors.c]\nkind = 'camera'\ndevice = '0'\nfps = inf", "sensors.c.fps: input should be a finite number"),
        (f"[sensors.{SPEECH}]\nkind = 'text'", "sensors.speech: the name is kept for the transcripts of spoken words"),
        ("[mqtt]\nca_file = '/no/such/file'", "mqtt.ca_file: must be a file of certificates (PEM); /no/such/file: [Er"),
        ("[mqtt]\nca_file = '~nouser/x'", "mqtt.ca_file: must be a file of certificates (PEM); ~nouser/x: "),
        (f"[mqtt]\nca_file = '{ROOT}/README.md'", "mqtt.ca_file: must be a file of certificates (PEM); "),
        (
            "[agent]\nnode = 'a/b'",
            "agent.node: must be one level of an MQTT topic: no /, +, #, white space; found 'a/b'",
        ),
        (
            "[encoders.text]\nreliability = 2",
            "encoders.text.reliability: input should be less than or equal to 1; found 2",
        ),
        (
            "[encoders.text]\nlanguages = ['en', 'en-GB']",
            "encoders.text.languages: must be languages of two or three small letters, such as \"en\"; found 'en-GB'",
        ),
        (
            "[encoders.text]\nlanguages = []",
            'encoders.text.languages: must be languages of two or three small letters, such as "en"; found none',
        ),
        ("[mqtt]\npassword = 'hunter2'", "mqtt.password: a secret is not written here: give ${NAME} (from the"),
        ("[mqtt]\npassword = '${ATTUNE_UNSET}'", "mqtt.password: the environment has no variable ATTUNE_UNSET; set it"),
    ],
)
def test_each_fault_names_its_key_and_what_to_do(tmp_path: Path, text: str, line: str) -> None:
    (found,) = faults(written(tmp_path, text))
    assert found.startswith(line)


@pytest.mark.parametrize(
    "broker",
    [
        *("embedded:99999", "embedded:0", "embedded:", "mqtt://h:99999", "mqtt://h:0", "mqtt://h:abc", "mqtt://:1883"),
        *("mqtt://[::1", "mqtt://a..b", f"mqtt://{'a' * 64}", "mqtt://h/x", "mqtt://h?x", "http://h"),
    ],
)
def test_a_broker_that_no_connection_could_be_made_to(tmp_path: Path, broker: str) -> None:
    (found,) = faults(written(tmp_path, f"[mqtt]\nbroker = '{broker}'"))
    assert found.startswith('mqtt.broker: must be "embedded", "embedded:PORT", "mqtt://HOST[:PORT]" or "mqtts://')
    assert found.endswith(f"found {broker!r}")


@pytest.mark.parametrize("broker", ["embedded:1884", "mqtt://h", "mqtts://h.example:8883", "mqtt://[::1]:1883"])
def test_a_broker_that_may_be_there(tmp_path: Path, broker: str) -> None:
    assert load(written(tmp_path, f"[mqtt]\nbroker = '{broker}'")).mqtt.broker == broker


@pytest.mark.parametrize(
    "text",
    [
        "[mqtt]\nbroker = 'mqtt://bob:4711@host'",
        "[mqtt]\nbroker = 'mqtt://bob:a/b@4711@host:1883'",
        "[mqtt]\npassword = 4711",
        "[mqtt]\npassword = ['4711']",
        f"[mqtt]\npassword = '/4711{'x' * 300}'",  # no file can have so long a name
        "[mqtt]\npassword = '~4711/x'",
        "[[mqtt]]\npassword = '4711'",
        "mqtt = 'mqtt://bob:4711@host'",
    ],
)
def test_no_message_shows_a_secret(tmp_path: Path, text: str) -> None:
    (found,) = faults(written(tmp_path, text))
    assert found.startswith("mqtt")
    assert "4711" not in found


def test_an_override_that_goes_wrong_does_not_show_its_value(tmp_path: Path) -> None:
    path = written(tmp_path, "[mqtt]\nuser = 'bob'")
    assert faults(path, "mqtt.user.password=4711") == ("--set mqtt.user.password: user is a value, not a table",)


def test_a_password_file_that_is_not_text(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"\xff\xfe")
    secret.chmod(0o600)
    (found,) = faults(written(tmp_path, f"[mqtt]\npassword = '{tmp_path}/secret'"))
    assert found.endswith("that file is not UTF-8 text")


def test_a_camera_may_be_named_by_its_number(tmp_path: Path) -> None:
    path = written(tmp_path, "[sensors.camera]\nkind = 'camera'\ndevice = '0'")
    camera = load(path, ["sensors.camera.device=1"]).sensors["camera"]
    assert isinstance(camera, CameraSensor)
    assert camera.device == "1"
    assert faults(path, "sensors.camera.device=true") == (
        "sensors.camera.device: input should be a valid string; found True",
    )


def test_a_password_never_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTUNE_TEST_PASSWORD", "hunter2")
    config = load(written(tmp_path, "[mqtt]\npassword = '${ATTUNE_TEST_PASSWORD}'"))
    assert config.mqtt.password
    assert config.mqtt.password.get_secret_value() == "hunter2"
    assert "hunter2" not in repr(config)


def test_a_password_may_lie_in_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2\n")
    secret.chmod(0o600)
    config = load(written(tmp_path, f"[mqtt]\npassword = '{secret}'"))
    assert config.mqtt.password
    assert config.mqtt.password.get_secret_value() == "hunter2"


@pytest.mark.parametrize(("mode", "given"), [(0o440, True), (0o400, True), (0o460, False), (0o444, False)])
def test_what_systemd_hands_over_may_show_the_mask_of_its_access_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, given: bool
) -> None:
    folder = tmp_path / "credentials" / "attune.service"
    folder.mkdir(parents=True)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    secret = folder / "mqtt-password"
    secret.write_text("hunter2\n")
    secret.chmod(mode)
    config = written(tmp_path, f"[mqtt]\npassword = '{secret}'")
    if not given:
        assert "may read or change" in faults(config)[0]
        return
    password = load(config).mqtt.password
    assert password is not None
    assert password.get_secret_value() == "hunter2"


@pytest.mark.parametrize(("mode", "whom"), [(0o640, "its group"), (0o604, "everybody"), (0o620, "its group")])
def test_a_password_file_is_for_its_owner_alone(mode: int, whom: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2\n")
    secret.chmod(mode)
    (found,) = faults(written(tmp_path, f"[mqtt]\npassword = '{secret}'"))
    assert found == (
        f"mqtt.password: {secret} is a secret that {whom} may read or change; allow its owner alone: chmod 600 {secret}"
    )


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        ("broker = 'embedded://0.0.0.0'", "mqtt.password: 'embedded://0.0.0.0' listens on a network: give user and"),
        ("broker = 'embedded://box.local'\nuser = 'u'", "mqtt.password: 'embedded://box.local' listens on a network"),
        ("broker = 'embedded://'", "mqtt.broker: must be "),
        ("queue = 2000", "mqtt.queue: input should be less than or equal to 1024; found 2000"),
        ("keepalive = '20 h'", 'mqtt.keepalive: must be from "1 s" to "18 h"; found "20 h"'),
        ("keepalive = '0 s'", 'mqtt.keepalive: must be from "1 s" to "18 h"; found "0 s"'),
        (
            "cert_file = '/c'",
            "mqtt.key_file: a client certificate is two files: give cert_file and key_file, or neither",
        ),
        ("key_file = '/no/such/file'", "mqtt.key_file: must be the file of a private key (PEM); /no/such/file: [Errno"),
    ],
)
def test_a_broker_that_would_not_be_safe_or_cannot_be(lines: str, fault: str, tmp_path: Path) -> None:
    (found,) = faults(written(tmp_path, f"[mqtt]\n{lines}"))
    assert found.startswith(fault)


@pytest.mark.parametrize("broker", ["embedded://127.0.0.1:1884", "embedded://localhost", "embedded://[::1]"])
def test_on_loopback_the_embedded_broker_needs_no_password(broker: str, tmp_path: Path) -> None:
    assert load(written(tmp_path, f"[mqtt]\nbroker = '{broker}'")).mqtt.broker == broker


def test_overrides_win_and_take_toml_values_or_bare_words(tmp_path: Path) -> None:
    path = written(tmp_path, "[fusion]\nrule = 'mean'")
    config = load(
        path,
        [
            "fusion.rule=vote",
            "agent.hop=1 s",
            "fusion.abstain_below=0.5",
            "sensors.eye.kind=camera",
            'sensors.eye.device="0"',
        ],
    )
    assert (config.fusion.rule, config.agent.hop, config.fusion.abstain_below) == ("vote", SECOND, 0.5)
    assert isinstance(config.sensors["eye"], CameraSensor)


def test_a_wrong_override_is_named_as_one(tmp_path: Path) -> None:
    path = written(tmp_path, "")
    assert faults(path, "fusion.rule") == ("--set fusion.rule: write it as table.key=value",)
    assert faults(path, "fusion.role=max") == ("fusion.role: unknown key; did you mean rule?",)


def test_a_file_that_is_not_there_or_not_toml(tmp_path: Path) -> None:
    assert faults(tmp_path / "none.toml") == ("no such file; name one with --config FILE",)
    assert faults(written(tmp_path, "[agent"))[0].startswith("cannot be read as TOML:")


@pytest.mark.parametrize(
    ("written_as", "means"),
    [
        ("latest", Latest()),
        ("queue(8)", Queue(8)),
        (" queue( 8 ) ", Queue(8)),
        ("max_age(200 ms)", MaxAge(200 * MS)),
        ("max_age(1.5 s, 16)", MaxAge(1500 * MS, size=16)),
        ("throttle(10 Hz)", Throttle(100 * MS)),
        ("throttle(0.5 Hz)", Throttle(2 * SECOND)),
        ("throttle(100 ms, 2)", Throttle(100 * MS, size=2)),
        ("never_drop", NeverDrop()),
        ("never_drop()", NeverDrop()),
        ("never_drop(7)", NeverDrop(7)),
    ],
)
@pytest.mark.parametrize("kind", ["kind = 'camera'\ndevice = 'a.mp4'", "kind = 'text'", "kind = 'stdin'"])
def test_delivery_is_a_policy_in_words(tmp_path: Path, kind: str, written_as: str, means: Delivery) -> None:
    table = load(written(tmp_path, f"[sensors.s]\n{kind}\ndelivery = '{written_as}'")).sensors["s"]
    assert isinstance(table, CameraSensor | TextSensor | StdinSensor)
    assert table.delivery == means


ONE_OF = "must be one of latest, queue(8), max_age(200 ms), throttle(10 Hz), never_drop; found "


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("'lastest'", f"{ONE_OF}'lastest'; did you mean latest?"),
        ("'newest(3) please'", f"{ONE_OF}'newest(3) please'"),
        ("8", f"{ONE_OF}8"),
        ("''", f"{ONE_OF}''"),
        ("'latest(3)'", "latest is written \"latest\"; found 'latest(3)'"),
        ("'queue'", "queue is written \"queue(8)\"; found 'queue' (the number says how many may wait)"),
        ("'queue(0)'", "how many may wait is a number from 1 to 1024; found '0'"),
        ("'queue(1025)'", "how many may wait is a number from 1 to 1024; found '1025'"),
        ("'queue(few)'", "how many may wait is a number from 1 to 1024; found 'few'"),
        ("'max_age(200)'", 'a duration is a string with a number and a unit, such as "250 ms"'),
        ("'max_age(0 ms)'", "a time or rate must be above 0"),
        (
            "'throttle'",
            "throttle is written \"throttle(10 Hz)\"; found 'throttle' (where the producer is to wait for us",
        ),
        ("'throttle(0 Hz)'", "a time or rate must be above 0"),
        ("'throttle(10)'", "a duration is a string with a number and a unit"),
        ("'never_drop(1, 2)'", "never_drop is written \"never_drop\"; found 'never_drop(1, 2)'"),
    ],
)
def test_a_delivery_that_is_none(tmp_path: Path, value: str, says: str) -> None:
    (found,) = faults(written(tmp_path, f"[sensors.s]\nkind = 'text'\ndelivery = {value}"))
    assert found.startswith(f"sensors.s.delivery: {says}")


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("latest", "would cut pieces out of the sound"),
        ("throttle(10 Hz)", "would cut pieces out of the sound"),
        ("never_drop", "can not be promised: the sound card goes on"),
    ],
)
def test_what_a_microphone_can_not_do_is_refused_with_the_reason(tmp_path: Path, value: str, why: str) -> None:
    (found,) = faults(written(tmp_path, f"[sensors.mic]\nkind = 'microphone'\ndelivery = '{value}'"))
    assert found.startswith(f"sensors.mic.delivery: '{value}' {why}")
    assert found.endswith('for a microphone write "queue(50)" or "max_age(1 s)"')


@pytest.mark.parametrize("device", ["0", "/dev/v4l/by-id/x", "rtsp://user:4711@host/x", "videotestsrc ! appsink"])
def test_only_a_camera_that_is_a_file_can_wait(tmp_path: Path, device: str) -> None:
    assert kind_of(device) is not Kind.FILE
    (found,) = faults(
        written(tmp_path, f"[sensors.c]\nkind = 'camera'\ndevice = '{device}'\ndelivery = 'never_drop(8)'")
    )
    assert found.startswith("sensors.c.delivery: only a file can wait for us; of what is live the driver would drop")
    assert "4711" not in found


@pytest.mark.parametrize(("value", "means"), [("queue(9)", Queue(9)), ("max_age(1 s)", MaxAge(SECOND))])
def test_what_a_microphone_can_do(tmp_path: Path, value: str, means: Delivery) -> None:
    table = load(written(tmp_path, f"[sensors.mic]\nkind = 'microphone'\ndelivery = '{value}'")).sensors["mic"]
    assert isinstance(table, MicrophoneSensor)
    assert table.delivery == means


def test_the_shipped_sensors_say_their_defaults(tmp_path: Path) -> None:
    bare = written(
        tmp_path,
        """
        [sensors.camera]
        kind = "camera"
        device = "0"
        [sensors.microphone]
        kind = "microphone"
        [sensors.text]
        kind = "text"
        """,
    )
    assert load(ROOT / "config.toml").sensors == load(bare).sensors
