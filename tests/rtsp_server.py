"""GStreamer's RTSP server with one camera, ``/camera``; a script for the system's Python, which has its bindings.

``python3 rtsp_server.py PORT FPS [USER PASSWORD]``; prints a line once it listens, and serves until it is killed.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402 - the versions come first

CAMERA = (
    "( videotestsrc is-live=true ! video/x-raw,width=160,height=120,framerate={fps}/1"
    " ! x264enc tune=zerolatency speed-preset=ultrafast threads=1 key-int-max=10 ! rtph264pay name=pay0 pt=96 )"
)


def main() -> None:
    """Serve."""
    port, fps, *account = sys.argv[1:]
    Gst.init(None)
    server = GstRtspServer.RTSPServer(address="127.0.0.1", service=port)
    factory = GstRtspServer.RTSPMediaFactory(launch=CAMERA.format(fps=fps), shared=True)
    if account:
        user, password = account
        _let_in(GstRtspServer.RTSPAuth.make_basic(user, password), server, factory)
    server.get_mount_points().add_factory("/camera", factory)
    server.attach(None)
    print("listens", flush=True)
    GLib.MainLoop().run()


def _let_in(account: str, server: GstRtspServer.RTSPServer, factory: GstRtspServer.RTSPMediaFactory) -> None:
    """Let in who has this account, and nobody else."""
    role = "viewer"
    token = GstRtspServer.RTSPToken()
    token.set_string(GstRtspServer.RTSP_TOKEN_MEDIA_FACTORY_ROLE, role)
    guard = GstRtspServer.RTSPAuth()
    guard.add_basic(account, token)
    server.set_auth(guard)
    factory.add_role_from_structure(_all_of(role))


def _all_of(role: str) -> Gst.Structure:
    structure = Gst.Structure.new_empty(role)
    for permission in ("media.factory.access", "media.factory.construct"):
        structure.set_value(permission, True)
    return structure


if __name__ == "__main__":
    main()
