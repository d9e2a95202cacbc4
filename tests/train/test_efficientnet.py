"""EfficientNet-Lite read from PyTorch's own files, and against PyTorch."""

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from engines import open_engine
from engines.convert import torchfile
from engines.convert.efficientnet import EPSILON, SIDE, STRIDES, convert
from tests.test_convert_efficientnet import BLOCKS, net
from tests.torchsaved import write

Weights = dict[str, torch.Tensor]


def layer(x: torch.Tensor, w: Weights, name: str, norm: str, stride: int = 1) -> torch.Tensor:
    kernel = w[f"{name}.weight"]
    wanted, side = -(-x.shape[2] // stride), x.shape[2]
    pad = max((wanted - 1) * stride + kernel.shape[2] - side, 0)
    x = functional.pad(x, (pad // 2, pad - pad // 2) * 2)
    x = functional.conv2d(x, kernel, stride=stride, groups=len(kernel) if "depthwise" in name else 1)
    parts = [w[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
    return functional.batch_norm(x, *parts, eps=EPSILON)


def means(picture: torch.Tensor, w: Weights, blocks: int) -> list[torch.Tensor]:
    """Behind each block (N, D), by PyTorch's own operators."""
    x = functional.relu6(layer((picture - 127) / 128, w, "_conv_stem", "_bn0", 2))
    found = []
    for number in range(blocks):
        block, y = f"_blocks.{number}.", x
        if number:
            y = functional.relu6(layer(y, w, f"{block}_expand_conv", f"{block}_bn0"))
        y = functional.relu6(layer(y, w, f"{block}_depthwise_conv", f"{block}_bn1", STRIDES[number]))
        y = layer(y, w, f"{block}_project_conv", f"{block}_bn2")
        x = x + y if x.shape == y.shape else y
        found.append(x.mean((2, 3)))
    return found


def pictures() -> torch.Tensor:
    return torch.tensor(np.random.default_rng(1).uniform(0, 255, (2, 3, SIDE, SIDE)).astype(np.float32))


def test_what_pytorch_saves_is_read(tmp_path: Path) -> None:
    held = {name: torch.from_numpy(array) for name, array in net().items()}
    torch.save(held, tmp_path / "net.pth", _use_new_zipfile_serialization=False)
    found = torchfile.read(tmp_path / "net.pth")
    assert list(found) == list(held)
    for name, array in net().items():
        np.testing.assert_array_equal(found[name], array)
    convert([tmp_path / "net.pth"], tmp_path / "net.onnx", options={"means": [1, 3]})
    with torch.inference_mode():
        every = means(pictures(), held, len(BLOCKS))
    given = open_engine(tmp_path / "net.onnx", "onnxruntime").infer({"picture": pictures().numpy()})["features"]
    np.testing.assert_allclose(given, torch.cat([every[1], every[3]], 1).numpy(), atol=1e-4)


def test_what_the_tests_write_pytorch_reads(tmp_path: Path) -> None:
    found = torch.load(write(tmp_path / "net.pth", net()), weights_only=True)
    for name, array in net().items():
        np.testing.assert_array_equal(found[name].numpy(), array)
