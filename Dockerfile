# One image for each device:
#   docker build --build-arg DEVICE=cpu  -t steersman:cpu .
#   docker build --build-arg DEVICE=cuda -t steersman:cuda .
#   docker run --rm -p 8000:8000 -v steersman-cache:/cache steersman:cpu smollm2
#
# Other base images: --build-arg CPU_BASE=… with Debian's packages and Python 3.11 to 3.13, or
# --build-arg CUDA_BASE=… with those of Ubuntu 24.04 and CUDA 13. For several nodes:
# --build-arg RAY=1 adds Ray.

ARG DEVICE=cpu
ARG CPU_BASE=python:3.11-slim
ARG CUDA_BASE=nvidia/cuda:13.0.1-runtime-ubuntu24.04

FROM ${CPU_BASE} AS cpu-base
# vLLM's CPU engine compiles kernels with g++ when it starts, and is linked to libnuma.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ libnuma1 make \
    && rm -rf /var/lib/apt/lists/*

FROM ${CUDA_BASE} AS cuda-base
# Triton compiles its launchers with gcc, against the headers of Python.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc make python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*

FROM ${DEVICE}-base AS build
ARG DEVICE
ARG RAY=
WORKDIR /opt/steersman
COPY . .
RUN PIP_NO_CACHE_DIR=1 UV_NO_CACHE=1 make setup${RAY:+-ray} DEVICE=${DEVICE}

FROM ${DEVICE}-base
COPY --from=build /opt/steersman /opt/steersman
# A number that the chart and compose know; the base images have users of their own.
RUN groupadd --gid 10001 steersman \
    && useradd --create-home --uid 10001 --gid 10001 steersman \
    && install -d -o steersman -g steersman /cache
USER 10001:10001
WORKDIR /home/steersman
ENV PATH=/opt/steersman/.venv/bin:$PATH \
    HF_HOME=/cache/huggingface \
    STEERSMAN_CACHE=/cache \
    TRITON_CACHE_DIR=/cache/triton \
    VLLM_CACHE_ROOT=/cache/vllm
VOLUME /cache
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=5m \
    CMD ["steersman", "health", "--url", "http://127.0.0.1:8000"]
ENTRYPOINT ["steersman", "serve"]
CMD ["smollm2"]
