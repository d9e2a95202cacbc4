"""The values that stand in ``config.toml``: what a person writes, and what the program gets.

Durations, sizes and rates are strings with a number and a unit; secrets stand somewhere else and are only pointed to.
No message here shows a secret, also not one that was written where it does not belong.
"""

from __future__ import annotations

import math
import os
import re
import ssl
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, NamedTuple
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

_NS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "min": 60 * 10**9,
    "h": 3600 * 10**9,
    "d": 86400 * 10**9,
}
_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "kB": 10**3, "MB": 10**6, "GB": 10**9}
_HZ = {"Hz": 1.0, "kHz": 1e3}


def parse_duration(text: object) -> int:
    """``"250 ms"`` as nanoseconds. Raises `ValueError` that says how to write it."""
    return round(_parse(text, _NS, "a duration", "250 ms"))


def parse_size(text: object) -> int:
    """``"256 MiB"`` as bytes. Raises `ValueError` that says how to write it."""
    return round(_parse(text, _BYTES, "a size", "256 MiB"))


def parse_rate(text: object) -> float:
    """``"5 Hz"`` as a number a second. Raises `ValueError` that says how to write it."""
    return _parse(text, _HZ, "a rate", "5 Hz")


def _parse(text: object, units: dict[str, float] | dict[str, int], what: str, example: str) -> float:
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-zµ]+)\s*", text) if isinstance(text, str) else None
    if match is None or match[2] not in units:
        known = ", ".join(units)
        raise ValueError(
            f'{what} is a string with a number and a unit, such as "{example}" (units: {known}); found {text!r}'
        )
    value = float(match[1]) * units[match[2]]
    if not math.isfinite(value):
        raise ValueError(f"{what} of that size is beyond all bounds")
    return value


def within(least: str, most: str) -> BeforeValidator:
    """For a duration: from ``least`` to ``most``, both as a person writes them."""
    least_ns, most_ns = parse_duration(least), parse_duration(most)

    def check(text: object) -> int:
        ns = parse_duration(text)
        if not least_ns <= ns <= most_ns:
            raise ValueError(f'must be from "{least}" to "{most}"; found "{text}"')
        return ns

    return BeforeValidator(check)


def masked(text: str) -> str:
    """The text, in which dots stand for the user and password of an address."""
    return re.sub(r"^(\w+://)?.*@", r"\1…@", text, flags=re.DOTALL)


def _positive(size: int) -> int:
    if size <= 0:
        raise ValueError("must be above 0")
    return size


def _topic_level(text: str) -> str:
    if not text or re.search(r"[/+#\0\s]", text):
        raise ValueError(f"must be one level of an MQTT topic: no /, +, #, white space; found {text!r}")
    return text


def _broker(text: str) -> str:
    """The host must be one that can be looked up, and the port one that can be listened on."""
    wrong = ValueError(
        'must be "embedded", "embedded:PORT", "mqtt://HOST[:PORT]" or "mqtts://HOST[:PORT]", the port from 1 to 65535'
        f' ("embedded://HOST[:PORT]" listens on a network; user and password have keys of their own);'
        f" found {masked(text)!r}"
    )
    if not re.fullmatch(r"embedded(:\d+)?|(embedded|mqtts?)://[^/?#@\s]+", text):
        raise wrong
    try:
        url = urlsplit(text if "://" in text else text.replace("embedded", "embedded://127.0.0.1"))
        host, port = url.hostname or "", url.port
        host.encode("idna")  # as a look-up does: no empty part, none too long
    except ValueError:
        raise wrong from None
    if not host or port == 0:
        raise wrong
    return text


class Endpoint(NamedTuple):
    """Where to listen."""

    host: str
    """A name or an address; of IPv6 without its brackets."""
    port: int
    """0 takes one that is free."""

    @property
    def loopback(self) -> bool:
        """Whether nobody but this machine can reach it."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_listen(text: object) -> Endpoint | None:
    """``"127.0.0.1:9464"`` or ``"[::1]:9464"``; None for ``"off"``. Raises `ValueError` that says how to write it."""
    if text == "off":
        return None
    wrong = ValueError(
        f'must be "HOST:PORT", such as "127.0.0.1:9464" (port 0 takes a free one), or "off"; found {text!r}'
    )
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:/@\s]+)):(\d{1,5})", text) if isinstance(text, str) else None
    if match is None or int(match[3]) > 65535:
        raise wrong
    try:
        (match[1] or match[2]).encode("idna")  # as a look-up does: no empty part, none too long
    except UnicodeError:
        raise wrong from None
    return Endpoint(match[1] or match[2], int(match[3]))


def _authority(path: Path) -> Path:
    """A file of certificates, looked into here so that the connection need not."""
    try:
        path = path.expanduser()
        ssl.create_default_context(cafile=path)
    except (OSError, RuntimeError) as error:  # RuntimeError: the ~ of a user who does not exist
        raise ValueError(f"must be a file of certificates (PEM); {path}: {error}") from None
    return path


def not_for_others(path: Path) -> None:
    """Raise `ValueError` where somebody else than its owner may read or write the file.

    One that systemd hands over (systemd.exec(5), ``LoadCredential=``) belongs to root, and an access control list lets
    the service's user read it: what its mode says of the group is that list's mask.
    """
    handed = Path(os.environ.get("CREDENTIALS_DIRECTORY") or "/dev/null").resolve() in path.resolve().parents
    if mode := path.stat().st_mode & (0o037 if handed else 0o077):
        whom = "its group" if mode & 0o070 else "everybody"
        raise ValueError(f"{path} is a secret that {whom} may read or change; allow its owner alone: chmod 600 {path}")


def _key(path: Path) -> Path:
    """The file of a private key."""
    try:
        path = path.expanduser()
        with path.open("rb"):
            not_for_others(path)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"must be the file of a private key (PEM); {path}: {error}") from None
    return path


def _secret(text: object) -> str:
    """``${NAME}`` from the environment, or the content of a file; never the secret itself."""
    not_here = "a secret is not written here: give ${NAME} (from the environment) or a file's absolute path"
    written = text if isinstance(text, str) else ""
    if match := re.fullmatch(r"\$\{(\w+)\}", written):
        if match[1] not in os.environ:
            raise ValueError(f"the environment has no variable {match[1]}; set it before the start")
        return os.environ[match[1]]
    try:
        path = Path(written).expanduser()
        if not path.is_absolute() or not path.is_file():
            raise ValueError(not_here)
        not_for_others(path)
        return path.read_text(encoding="utf-8").rstrip("\n")
    except OSError as error:  # its own text would show the path, which may be the secret
        raise ValueError(f"{not_here}; that file cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{not_here}; that file is not UTF-8 text") from None
    except RuntimeError:
        raise ValueError(f"{not_here}; that home directory is not known") from None


Duration = Annotated[int, within("1 ns", "365 d")]
DurationOrZero = Annotated[int, within("0 s", "365 d")]
Size = Annotated[int, BeforeValidator(parse_size), AfterValidator(_positive)]
Count = Annotated[int, Field(gt=0, le=2**31 - 1)]
Rate = Annotated[float, BeforeValidator(parse_rate), Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Level = Annotated[str, AfterValidator(_topic_level)]
Broker = Annotated[str, AfterValidator(_broker)]
Authority = Annotated[Path, AfterValidator(_authority)]
Listen = Annotated[Endpoint | None, BeforeValidator(parse_listen)]
PrivateKey = Annotated[Path, AfterValidator(_key)]
Secret = Annotated[SecretStr, BeforeValidator(_secret)]
