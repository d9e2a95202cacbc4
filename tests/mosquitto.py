"""A real Mosquitto for a test: a process of its own on a free port."""

import asyncio
import contextlib
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

BINARY = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin:/opt/homebrew/sbin")


def free_port() -> int:
    """A TCP port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def listening(port: int) -> None:
    """Return once something accepts connections on the port."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.01)
        else:
            writer.close()
            await writer.wait_closed()
            return


@contextlib.asynccontextmanager
async def mosquitto(port: int, folder: Path, *settings: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the broker, without memory of earlier runs, until the end of the block."""
    assert BINARY, "mosquitto is not installed; `make test` installs it where it may"
    config = folder / f"mosquitto-{port}.conf"
    lines = settings or ("allow_anonymous true",)
    config.write_text("\n".join([f"listener {port} 127.0.0.1", "user root", *lines]) + "\n")
    process = await asyncio.create_subprocess_exec(BINARY, "-c", config, stderr=asyncio.subprocess.DEVNULL)
    try:
        async with asyncio.timeout(10):
            await listening(port)
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
