"""A PulseAudio server of our own, with a sink that plays to nobody and whose monitor is the default microphone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from agent.types import F32

PLAY_RATE_HZ = 48_000


class Pulse:
    """Starts and ends a server by its own process; one socket, so that clients find it again after a restart."""

    def __init__(self) -> None:
        # Below the temporary directory and not pytest's: a socket's path has 107 characters at most.
        self.folder = Path(tempfile.mkdtemp(prefix="pulse-"))
        self.socket = self.folder / "native"
        (self.folder / "asound.conf").write_text("pcm.!default { type pulse }\nctl.!default { type pulse }\n")
        self.env = {
            "PULSE_SERVER": f"unix:{self.socket}",
            "PULSE_RUNTIME_PATH": str(self.folder / "run"),
            "XDG_RUNTIME_DIR": str(self.folder),
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            "ALSA_CONFIG_PATH": str(self.folder / "asound.conf"),
            # libpulse prefers an X11 or D-Bus session's server to ours, where there is one.
            "DISPLAY": "",
            "DBUS_SESSION_BUS_ADDRESS": "disabled:",
        }
        self._server: subprocess.Popen[bytes] | None = None
        self._players: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start the server and return when clients can connect."""
        command = [
            *("pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", "--disable-shm=yes"),
            f"--load=module-native-protocol-unix socket={self.socket} auth-anonymous=1",
            f"--load=module-null-sink sink_name=speaker rate={PLAY_RATE_HZ} channels=1",
        ]
        with (self.folder / "log").open("ab") as log:
            self._server = subprocess.Popen(command, env=os.environ | self.env, stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        while self._ctl("get-default-source") != "speaker.monitor":
            if self._server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"pulseaudio did not start:\n{(self.folder / 'log').read_text()}")

    def kill(self) -> None:
        """End the server without a word, as a crash would."""
        if self._server is not None:
            self._server.kill()
            self._server.wait()
            self._server = None

    def freeze(self) -> None:
        """Stop the server where it stands, as a deadlock would."""
        assert self._server is not None
        self._server.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let the server go on."""
        assert self._server is not None
        self._server.send_signal(signal.SIGCONT)

    def play(self, pcm: F32) -> None:
        """Play (T,) at `PLAY_RATE_HZ` into the sink; returns at once."""
        file = self.folder / f"{len(self._players)}.f32"
        file.write_bytes(np.ascontiguousarray(pcm, "<f4").tobytes())
        command = [
            "pacat",
            "--raw",
            "--format=float32le",
            f"--rate={PLAY_RATE_HZ}",
            "--channels=1",
            "--latency-msec=20",
        ]
        self._players.append(subprocess.Popen([*command, str(file)], env=os.environ | self.env))

    def pipe_source(self, *, rate_hz: int) -> Path:
        """Add a microphone that hears what is written into a pipe (16 bit, mono), as the default; returns the pipe."""
        pipe = self.folder / "microphone"
        settings = f"file={pipe} source_name=pipe format=s16le rate={rate_hz} channels=1".split()
        self._ctl("load-module", "module-pipe-source", *settings)
        self._ctl("set-default-source", "pipe")
        if not pipe.is_fifo():
            raise RuntimeError(f"pulseaudio made no pipe:\n{(self.folder / 'log').read_text()}")
        return pipe

    def recorded_by(self) -> list[str]:
        """A line for each stream that is being recorded, as the server tells."""
        return self._ctl("list", "short", "source-outputs").splitlines()

    def close(self) -> None:
        """End everything that was started here."""
        for player in self._players:
            player.kill()
            player.wait()
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _ctl(self, *words: str) -> str:
        answer = subprocess.run(
            ["pactl", *words], env=os.environ | self.env, capture_output=True, text=True, check=False
        )
        return answer.stdout.strip()


@contextmanager
def sound_server() -> Iterator[Pulse]:
    """A server to which this process is pointed, until the end of the block."""
    before = dict(os.environ)
    server = Pulse()
    os.environ.update(server.env)
    server.start()
    try:
        yield server
    finally:
        server.close()
        os.environ.clear()
        os.environ.update(before)
