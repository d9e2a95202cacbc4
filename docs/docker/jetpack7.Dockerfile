# Attune on a Jetson with JetPack 7 (Python 3.12); README.md beside this file says how to run it, and what was tried of it.
#   docker build -f docs/docker/jetpack7.Dockerfile --build-arg TENSORRT=TAG -t attune:jetpack7 .
# TENSORRT is a tag of NVIDIA's TensorRT image for Arm servers whose CUDA the board's driver supports (its release notes
# name them); the image brings TensorRT with its Python bindings, and CUDA's compiler, by which pycuda's build finds CUDA.
ARG TENSORRT=25.09-py3
FROM nvcr.io/nvidia/tensorrt:${TENSORRT}
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends g++ libportaudio2 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/* && useradd --create-home --uid 10001 --groups audio,video attune
WORKDIR /attune
COPY . .
ENV XDG_CACHE_HOME=/cache
# What comes first asks whether the image's TensorRT is one for this Python: without it everything would run on the CPU.
RUN python3 -m venv --system-site-packages .venv \
    && { .venv/bin/python -c 'import importlib.util, sys; sys.exit(not importlib.util.find_spec("tensorrt"))' \
         || { echo "python3 of this image finds no tensorrt; take another TENSORRT" >&2; exit 1; }; } \
    && echo 'CUDA_ENABLE_CURAND = False' > /etc/aksetup-defaults.py \
    && .venv/bin/pip install --no-cache-dir -e '.[models,gpu]' \
    && .venv/bin/python -m compileall -q launch.py agent engines sensors \
    && .venv/bin/python launch.py models fetch && mkdir -p /cache/attune/models/plans /data \
    && chown -R attune:attune /cache /data && chmod -R a+rX .
ENV XDG_STATE_HOME=/data
USER 10001
WORKDIR /data
ENTRYPOINT ["/attune/.venv/bin/python", "/attune/launch.py"]
CMD ["run"]
