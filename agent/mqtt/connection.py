"""One connection to the broker, and waiting on it without losing a cancellation."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Coroutine
from typing import Any

import aiomqtt

from agent.config import Mqtt
from agent.mqtt.address import Address

V5, V311 = aiomqtt.ProtocolVersion.V5, aiomqtt.ProtocolVersion.V311


def connection(
    settings: Mqtt,
    *,
    protocol: aiomqtt.ProtocolVersion,
    identifier: str | None = None,
    will: aiomqtt.Will | None = None,
) -> aiomqtt.Client:
    """A client of the broker of the config, with its user, password and TLS; ``async with`` connects it."""
    address = Address.of(settings.broker)
    return aiomqtt.Client(
        address.host,
        address.port,
        username=settings.user,
        password=settings.password.get_secret_value() if settings.password else None,
        identifier=identifier,
        protocol=protocol,
        will=will,
        keepalive=20,
        timeout=5,
        tls_context=ssl.create_default_context(cafile=settings.ca_file) if address.tls else None,
        # Else a small message waits until the one before it is acknowledged: 40 ms, as acknowledgements are delayed.
        socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
    )


async def either(*jobs: Coroutine[Any, Any, None]) -> None:
    """Run jobs that never end until one fails, with that error.

    No TaskGroup: in Python 3.11 and 3.12 one whose task fails in the turn of its own cancellation swallows the
    cancellation, and this runs in a loop that catches the error and goes on.
    """
    tasks = [asyncio.create_task(job, name="mqtt") for job in jobs]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        while alive := [task for task in tasks if not task.done()]:
            for task in alive:
                task.cancel()  # more than once if need be, see heed_cancellation
            await asyncio.wait(alive, timeout=0.1)
    for task in tasks:
        if not task.cancelled():
            task.result()


def heed_cancellation() -> None:
    """Raise a cancellation that got lost: `asyncio.wait_for`, by which aiomqtt waits, may swallow it in Python 3.11."""
    task = asyncio.current_task()
    if task and task.cancelling():
        raise asyncio.CancelledError
