# Attune on a Jetson with JetPack 7 (Python 3.12). Checked by hadolint; never built or run so far (docs/jetson.md).
#   docker build -f docs/docker/jetpack7.Dockerfile --build-arg TENSORRT=TAG -t attune:jetpack7 .
#   docker run --rm --runtime nvidia --device /dev/video0 --device /dev/snd -v attune:/cache attune:jetpack7
# TENSORRT is a tag of NVIDIA's TensorRT image for Arm servers whose CUDA the board's driver supports (its release notes
# name them); the image brings TensorRT with its Python bindings, and CUDA's compiler, by which pycuda's build finds CUDA.
ARG TENSORRT=25.09-py3
FROM nvcr.io/nvidia/tensorrt:${TENSORRT}
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends g++ libportaudio2 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/* && useradd --create-home --groups audio,video attune \
    && mkdir /cache && chown attune /cache
WORKDIR /attune
COPY . .
ENV XDG_CACHE_HOME=/cache
RUN echo 'CUDA_ENABLE_CURAND = False' > /etc/aksetup-defaults.py \
    && python3 -m venv --system-site-packages .venv && .venv/bin/pip install --no-cache-dir -e '.[models,gpu]' \
    && .venv/bin/python launch.py models fetch && chown -R attune /cache
USER attune
ENTRYPOINT ["/attune/.venv/bin/python", "launch.py"]
CMD ["run"]
