"""What ``launch.py devices`` shows."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from sensors.devices import find_cameras, find_microphones


def show_devices(out: Console) -> None:
    """Print the cameras and microphones that are there, as the config names them; what to do where there is none."""
    cameras, microphones = find_cameras(), find_microphones()
    for camera in cameras.devices:
        out.print(f'[bold]camera[/] {escape(camera.name)} ({camera.node}): device = "{escape(camera.device)}"')
    for microphone in microphones.devices:
        default = ", the default" if microphone.default else ""
        out.print(
            f'[bold]microphone[/] device = "{escape(microphone.device)}" ({escape(microphone.host)},'
            f" {microphone.channels} ch, {microphone.rate_hz} Hz{default})"
        )
    for kind, advice in (("cameras", cameras.advice), ("microphones", microphones.advice)):
        if advice:
            out.print(f"[bold]{kind}[/]: {escape(advice)}", soft_wrap=True)
