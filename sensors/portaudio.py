"""The one place that loads PortAudio, for it is missing on many machines and keeps its list of devices for good.

PortAudio reads the list when it is initialised. A microphone that was plugged in later is only seen after it was
terminated and initialised again, which must not happen while a stream is open.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from agent.seams import SensorError

NO_INPUT = (
    "PortAudio lists no microphone; plug one in, start the sound server (PulseAudio or PipeWire), or hand /dev/snd"
    " into the container"
)

_lock = threading.Lock()
_open = 0


@dataclass(frozen=True, slots=True)
class Input:
    """One device with inputs."""

    index: int
    """PortAudio's number, good until the list is read again."""
    name: str
    host: str
    """The host API, such as ``ALSA``."""
    channels: int
    rate_hz: int
    """The device's own."""
    default: bool


def load() -> Any:
    """The module `sounddevice`. Raises `SensorError` where it or PortAudio is missing."""
    try:
        import sounddevice
    except ImportError as error:
        raise SensorError(f"sounddevice is not installed ({error}); `pip install sounddevice`") from None
    except OSError as error:
        raise SensorError(
            f"PortAudio is not installed ({error}); on Debian and Ubuntu `apt install libportaudio2`, then start again"
        ) from None
    return sounddevice


def inputs() -> tuple[Input, ...]:
    """The devices with inputs, read afresh unless a stream is open.

    Raises `SensorError` where PortAudio is missing or fails.
    """
    sounddevice = load()
    with _as_sensor_error(sounddevice, "PortAudio does not list the microphones"), _lock:
        _refresh(sounddevice)
        return _listed(sounddevice)


@contextmanager
def open_input(name: str, pattern: str, *, settings: Callable[[Any, Input], dict[str, Any]]) -> Iterator[Any]:
    """A stream of the first input whose name fits the glob `pattern`, opened, not yet started; closed at the end.

    ``default`` is the system's default input. `settings` gives, for sounddevice and the input that was chosen, the
    arguments of ``sounddevice.InputStream``. Raises `SensorError`, also for what PortAudio says while the stream is in
    use. Blocks, and holds back other microphones that open meanwhile: PortAudio's opening is not thread-safe.
    """
    global _open
    sounddevice = load()
    with _as_sensor_error(sounddevice, f"{name}: PortAudio failed on {pattern!r}"):
        with _lock:
            _refresh(sounddevice)
            device = _choose(name, pattern, _listed(sounddevice))
            stream = sounddevice.InputStream(device=device.index, **settings(sounddevice, device))
            _open += 1
        try:
            yield stream
        finally:
            stream.close(ignore_errors=True)
            with _lock:
                _open -= 1


@contextmanager
def _as_sensor_error(sounddevice: Any, what: str) -> Iterator[None]:
    try:
        yield
    except sounddevice.PortAudioError as error:
        raise SensorError(
            f"{what} ({error}); the microphone may have been unplugged, another program may hold it, or the sound"
            " server may be down"
        ) from None


def forsake() -> None:
    """A driver hangs inside PortAudio: keep it from hanging the end of the process as well."""
    atexit.unregister(load()._exit_handler)


def _refresh(sounddevice: Any) -> None:
    if _open == 0:
        # sounddevice offers no public way to read the list again. After an initialisation that failed there is nothing
        # to terminate, and trying to is an error.
        if sounddevice._initialized:
            sounddevice._terminate()
        sounddevice._initialize()


def _listed(sounddevice: Any) -> tuple[Input, ...]:
    hosts = sounddevice.query_hostapis()
    default = sounddevice.default.device[0]
    if default < 0 and hosts:
        default = hosts[0]["default_input_device"]
    return tuple(
        Input(
            index=device["index"],
            name=device["name"],
            host=hosts[device["hostapi"]]["name"],
            channels=device["max_input_channels"],
            rate_hz=round(device["default_samplerate"]),
            default=device["index"] == default,
        )
        for device in sounddevice.query_devices()
        if device["max_input_channels"] > 0
    )


def _choose(name: str, pattern: str, listed: tuple[Input, ...]) -> Input:
    for device in listed:
        if device.default if pattern == "default" else fnmatchcase(device.name.lower(), pattern.lower()):
            return device
    if not listed:
        raise SensorError(f"{name}: asked for {pattern!r}; {NO_INPUT}")
    found = ", ".join(repr(device.name) for device in listed)
    raise SensorError(f"{name}: no microphone is called {pattern!r}; found {found}; a glob such as '*USB*' will do")
