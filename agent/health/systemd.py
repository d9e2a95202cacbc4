"""What the agent tells systemd: that it is up, that it is well, how it stands, that it stops.

The protocol is that of sd_notify(3): datagrams of ``NAME=VALUE`` lines to the Unix socket that ``NOTIFY_SOCKET`` names.
Nothing is sent where nobody gave one.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from agent.clock import SECOND, Clock

log = logging.getLogger(__name__)

STATUS_NS = 10 * SECOND
"""How often the status is looked at where systemd sets no watchdog."""


@dataclass(frozen=True, slots=True)
class Notifier:
    """Where to send, and how often systemd wants to hear."""

    address: str
    """Path of the socket; one that begins with @ is abstract."""
    watchdog_ns: int | None = None
    """systemd kills the service when it does not hear for so long."""

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Notifier | None:
        """As systemd tells in the environment; None where it does not, or means another process."""
        address, usec = environment.get("NOTIFY_SOCKET", ""), environment.get("WATCHDOG_USEC", "")
        if not address.startswith(("/", "@")):
            return None
        meant = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        return cls(address, int(usec) * 1_000 if meant and usec.isdigit() and int(usec) else None)

    def send(self, **values: str) -> None:
        """Send; that nobody listens any more is logged, because the service works on without."""
        address = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        message = "\n".join(f"{name}={' '.join(value.split())}" for name, value in values.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as to:
                to.sendto(message.encode(), address)
        except OSError as error:
            log.warning("systemd cannot be told %s at %s: %s", ", ".join(values), self.address, error.strerror)


@dataclass(slots=True)
class Service:
    """Tells systemd, while `run` runs. Only while the agent is alive does the watchdog hear of it."""

    notifier: Notifier
    clock: Clock
    alive: Callable[[], str]
    """Why it is not; empty when it is."""
    status: Callable[[], str]
    """How it stands, in one line."""
    _told: str = field(default="", init=False)

    async def run(self) -> None:
        """Tell until cancelled."""
        every_ns = min(STATUS_NS, (self.notifier.watchdog_ns or 2 * STATUS_NS) // 2)
        self._told = self.status()
        self.notifier.send(READY="1", STATUS=self._told)
        try:
            while True:
                self._tell()
                await self.clock.sleep_until(self.clock.now_ns() + every_ns)
        finally:
            self.notifier.send(STOPPING="1")

    def _tell(self) -> None:
        trouble = self.alive()
        if not trouble and self.notifier.watchdog_ns:
            self.notifier.send(WATCHDOG="1")
        said = trouble or self.status()
        if said != self._told:
            self._told = said
            self.notifier.send(STATUS=said)
        if trouble:
            log.error("not well, and systemd's watchdog is not told otherwise: %s", trouble)
