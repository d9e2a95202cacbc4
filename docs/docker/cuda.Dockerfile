# Attune on an x86-64 machine with an NVIDIA GPU. Checked by hadolint; never built or run so far (docs/tensorrt.md).
#   docker build -f docs/docker/cuda.Dockerfile -t attune:cuda .
#   docker run --rm --gpus all --device /dev/video0 --device /dev/snd -v attune:/cache attune:cuda
# The first start answers on ONNX Runtime, builds its plans in the background, and keeps them in the volume.
# CUDA 13 wants a driver from 580 on, and so do the newest wheels of TensorRT and cuda-bindings.
ARG CUDA=13.0.1
FROM nvidia/cuda:${CUDA}-devel-ubuntu24.04 AS build
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends g++ python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /attune
COPY . .
ENV XDG_CACHE_HOME=/cache
# pycuda is compiled here, by the nvcc in the path, and without cuRAND: the image that runs it has no libcurand, without
# which pycuda could not be loaded. TensorRT's wheels bring their libraries from NVIDIA's own index.
RUN echo 'CUDA_ENABLE_CURAND = False' > /etc/aksetup-defaults.py \
    && python3 -m venv .venv && .venv/bin/pip install --no-cache-dir -e '.[models,gpu]' \
    && .venv/bin/python launch.py models fetch

FROM nvidia/cuda:${CUDA}-base-ubuntu24.04
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends libportaudio2 python3 \
    && rm -rf /var/lib/apt/lists/* && useradd --create-home --groups audio,video attune \
    && mkdir /cache && chown attune /cache
COPY --from=build /attune /attune
COPY --from=build --chown=attune /cache /cache
ENV XDG_CACHE_HOME=/cache
USER attune
WORKDIR /attune
ENTRYPOINT ["/attune/.venv/bin/python", "launch.py"]
CMD ["run"]
