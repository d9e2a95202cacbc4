# Attune on an x86-64 machine with an NVIDIA GPU; README.md beside this file says how to run it, and what was tried of it.
#   docker build -f docs/docker/cuda.Dockerfile -t attune:cuda .
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
# models alone makes an image without TensorRT.
ARG EXTRAS=models,gpu
# pycuda is compiled here, by the nvcc in the path, and without cuRAND: the image that runs it has no libcurand, without
# which pycuda could not be loaded. TensorRT's wheels bring their libraries from NVIDIA's own index. Who runs the agent
# cannot write beside its sources, so that they are compiled now, once, and reads them whoever alone could read the checkout.
RUN echo 'CUDA_ENABLE_CURAND = False' > /etc/aksetup-defaults.py \
    && python3 -m venv .venv && .venv/bin/pip install --no-cache-dir -e ".[${EXTRAS}]" \
    && .venv/bin/python -m compileall -q launch.py agent engines sensors \
    && .venv/bin/python launch.py models fetch && mkdir -p /cache/attune/models/plans /data && chmod -R a+rX .

FROM nvidia/cuda:${CUDA}-base-ubuntu24.04
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends libportaudio2 python3 \
    && rm -rf /var/lib/apt/lists/* && useradd --create-home --uid 10001 --groups audio,video attune
COPY --from=build /attune /attune
COPY --from=build --chown=10001:10001 /cache /cache
COPY --from=build --chown=10001:10001 /data /data
# What lasts is written to two places: plans beside the models, and events and recordings in /data.
ENV XDG_CACHE_HOME=/cache XDG_STATE_HOME=/data
USER 10001
WORKDIR /data
ENTRYPOINT ["/attune/.venv/bin/python", "/attune/launch.py"]
CMD ["run"]
