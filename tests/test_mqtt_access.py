"""TLS with client certificates, and the access list of docs/mqtt.md as it stands there."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from agent.config import LABELS, Mqtt
from agent.config.file import ConfigError, load
from agent.control.commands import Reply
from agent.mqtt import V5, connection
from agent.mqtt.connection import Connection, RefusedError
from agent.mqtt.message import Message
from tests.authority import Authority
from tests.mosquitto import free_port, mosquitto
from tests.publishing import NODE, Talker, decision, running

DOCS = Path(__file__).parent.parent / "docs" / "mqtt.md"


def listed(kind: str) -> str:
    """The code block of that kind in docs/mqtt.md."""
    (block,) = re.findall(rf"^```{kind}\n(.*?)^```", DOCS.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return str(block)


@dataclass
class Site:
    """A broker with TLS and the access list, and the authority that signs for everybody there."""

    authority: Authority
    port: int
    stack: AsyncExitStack

    def settings(self, name: str, **other: Any) -> dict[str, Any]:
        certificate, key = self.authority.issue(name)
        return {
            "broker": f"mqtts://127.0.0.1:{self.port}",
            "ca_file": self.authority.certificate,
            "cert_file": certificate,
            "key_file": key,
            **other,
        }

    async def client(self, name: str) -> Connection:
        client = connection(Mqtt.model_validate(self.settings(name)), protocol=V5, identifier=name)
        return await self.stack.enter_async_context(client)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("access") / "authority")


@pytest.fixture
async def site(authority: Authority, tmp_path: Path) -> AsyncIterator[Site]:
    certificate, key = authority.issue("broker", address="IP:127.0.0.1")
    access = tmp_path / "attune.acl"
    access.write_text(listed("acl"))
    lines = (
        f"cafile {authority.certificate}",
        f"certfile {certificate}",
        f"keyfile {key}",
        "require_certificate true",
        "use_identity_as_username true",
        f"acl_file {access}",
    )
    async with mosquitto(port := free_port(), tmp_path, *lines), AsyncExitStack() as stack, asyncio.timeout(40):
        yield Site(authority, port, stack)


async def refused(client: Connection, topic: str) -> bool:
    try:
        await client.deliver(Message(topic, b"{}", qos=1), 0)
    except RefusedError:
        return True
    return False


async def test_each_may_do_its_own_and_nothing_else(site: Site) -> None:
    commands: asyncio.Queue[str] = asyncio.Queue()

    async def on_command(name: str, payload: bytes) -> Reply:
        commands.put_nowait(name)
        return Reply(ok=True, said="done")

    home, archive, chat, other = [await site.client(name) for name in ("homeassistant", "archive", "chat", "kiosk-2")]
    for client in (home, archive, chat, other):
        await client.subscribe("#", qos=1)
    p = Talker(
        f"mqtts://127.0.0.1:{site.port}", settings=site.settings("kiosk-1"), on_command=on_command, labels=LABELS
    )
    async with running(p):
        p.status({"paused": False})
        p.decision(decision(0))
        p.event({"type": "new", "id": "e"})
        heard = {str((await anext(home.messages)).topic) for _ in range(6)}
        assert heard == {
            *(f"{NODE}/{what}" for what in ("availability", "state", "status", "decision", "event")),
            "homeassistant/device/attune_kiosk-1/config",
        }
        await home.deliver(Message(f"{NODE}/cmd/pause", b"ON", qos=1), 0)
        assert await commands.get() == "pause"
        await chat.deliver(Message(f"{NODE}/text/in", b"hello", qos=1), 0)
        assert await p.texts.get() == b"hello"
        assert await refused(home, f"{NODE}/cmd/record")
        for client in (archive, chat, other):
            for topic in (f"{NODE}/state", f"{NODE}/cmd/pause", "homeassistant/device/attune_kiosk-1/config"):
                assert await refused(client, topic)
        assert await refused(other, f"{NODE}/text/in")
        assert not await refused(other, "attune/kiosk-2/state")
        assert {str((await anext(archive.messages)).topic) for _ in range(2)} == {f"{NODE}/decision", f"{NODE}/event"}
        for client in (archive, chat):
            assert len(client.messages) == 0, "the text was not for them"
        assert p.counted.counts["publish.refused"] == 0, "the list lets the agent say all it has to say"


async def test_who_has_no_certificate_of_the_authority_does_not_get_in(site: Site, tmp_path: Path) -> None:
    stranger = Authority(tmp_path / "stranger").issue("kiosk-1")
    settings = site.settings("kiosk-1")
    for certificate, key in ((None, None), stranger):
        asked = Mqtt.model_validate({**settings, "cert_file": certificate, "key_file": key, "keepalive": "2 s"})
        with pytest.raises(aiomqtt.MqttError):
            async with connection(asked, protocol=V5):
                pass


@pytest.mark.filterwarnings("ignore:unclosed <ssl:ResourceWarning")  # paho leaves it to the garbage collector
async def test_the_agent_does_not_talk_to_a_broker_that_cannot_prove_who_it_is(site: Site, tmp_path: Path) -> None:
    settings = site.settings("kiosk-1")
    other = Authority(tmp_path / "other").certificate
    for change in ({"ca_file": other}, {"ca_file": None}, {"broker": f"mqtts://localhost:{site.port}"}):
        with pytest.raises(aiomqtt.MqttError, match="certificate verify failed"):
            async with connection(Mqtt.model_validate({**settings, **change}), protocol=V5):
                pass


async def test_the_agent_says_in_the_log_what_the_broker_refuses_and_goes_on(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    home = await site.client("homeassistant")
    await home.subscribe("attune/+/state", qos=1)
    settings = site.settings("kiosk-2")
    p = Talker(f"mqtts://127.0.0.1:{site.port}", settings=settings, on_command=None, labels=LABELS, node="kiosk-2")
    async with running(p):
        p.decision(decision(0))
        assert json.loads((await anext(home.messages)).payload)["id"] == "s-0"
    assert p.counted.counts["publish.refused"] == 1
    refusal = "refuses homeassistant/device/attune_kiosk-2/config: Not authorized; allow it in the broker's access list"
    assert refusal in caplog.text


def test_a_key_that_others_may_read_or_of_another_certificate_is_a_fault(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue("careless")
    _, another = authority.issue("another")
    path = tmp_path / "config.toml"

    def fault(of_key: Path) -> str:
        path.write_text(
            f"[mqtt]\nbroker = 'mqtts://b'\ncert_file = '{certificate}'\nkey_file = '{of_key}'\n", encoding="utf-8"
        )
        with pytest.raises(ConfigError) as caught:
            load(path)
        (line,) = caught.value.lines
        return line

    assert "are no certificate and its key" in fault(another)
    key.chmod(0o644)
    assert fault(key).endswith(f"allow its owner alone: chmod 600 {key}")
