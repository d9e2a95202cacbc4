import os
from pathlib import Path

from sensors.devices import Camera, find_cameras


def make_machine(root: Path, *nodes: tuple[str, str, str]) -> None:
    """``(node, name, index)`` each, laid out as by the kernel and udev; the nodes are plain files."""
    (root / "dev").mkdir(parents=True)
    for node, name, index in nodes:
        entry = root / "sys/class/video4linux" / node
        entry.mkdir(parents=True)
        (entry / "name").write_text(f"{name}\n")
        (entry / "index").write_text(f"{index}\n")
        (root / "dev" / node).touch()


def test_cameras_go_by_their_stable_path_and_metadata_nodes_are_left_out(tmp_path: Path) -> None:
    make_machine(
        tmp_path, ("video10", "Other", "0"), ("video0", "HD Webcam: HD Webcam", "0"), ("video1", "HD Webcam", "1")
    )
    for kind, link in (("by-path", "pci-0000-video-index0"), ("by-id", "usb-Acme_HD_Webcam_1234-video-index0")):
        folder = tmp_path / "dev/v4l" / kind
        folder.mkdir(parents=True)
        (folder / link).symlink_to("../../video0")
    found = find_cameras(tmp_path)
    assert found.advice == ""
    stable = "/dev/v4l/by-id/usb-Acme_HD_Webcam_1234-video-index0"
    assert found.devices == (
        Camera(device=stable, node="/dev/video0", name="HD Webcam: HD Webcam", usable=True),
        Camera(device="/dev/video10", node="/dev/video10", name="Other", usable=True),
    )


def test_without_a_camera_it_says_what_to_do(tmp_path: Path) -> None:
    found = find_cameras(tmp_path)
    assert found.devices == ()
    assert "no camera is connected" in found.advice
    assert "rtsp://" in found.advice


def test_a_node_that_is_gone_is_no_camera(tmp_path: Path) -> None:
    make_machine(tmp_path, ("video0", "Webcam", "0"))
    (tmp_path / "dev/video0").unlink()
    assert find_cameras(tmp_path).devices == ()


def test_the_real_machine_is_read_without_a_fault() -> None:
    for camera in find_cameras().devices:
        assert os.path.exists(camera.node)  # noqa: PTH110
