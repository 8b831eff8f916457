# One image for each device:
#   docker build --build-arg DEVICE=cpu  -t steersman:cpu .
#   docker build --build-arg DEVICE=cuda -t steersman:cuda .
#   docker run --rm -p 8000:8000 -v steersman-cache:/cache steersman:cpu smollm2

ARG DEVICE=cpu

FROM python:3.11-slim AS cpu-base
# vLLM's CPU engine compiles kernels with g++ when it starts, and is linked to libnuma.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ libnuma1 make \
    && rm -rf /var/lib/apt/lists/*

FROM nvidia/cuda:13.0.1-runtime-ubuntu24.04 AS cuda-base
# Triton compiles its launchers with gcc, against the headers of Python.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc make python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*

FROM ${DEVICE}-base AS build
ARG DEVICE
WORKDIR /opt/steersman
COPY . .
RUN PIP_NO_CACHE_DIR=1 UV_NO_CACHE=1 make setup DEVICE=${DEVICE}

FROM ${DEVICE}-base
COPY --from=build /opt/steersman /opt/steersman
RUN useradd --create-home steersman && install -d -o steersman -g steersman /cache
USER steersman
WORKDIR /home/steersman
ENV PATH=/opt/steersman/.venv/bin:$PATH \
    HF_HOME=/cache/huggingface \
    STEERSMAN_CACHE=/cache \
    VLLM_CACHE_ROOT=/cache/vllm
VOLUME /cache
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=5m \
    CMD ["steersman", "health", "--url", "http://127.0.0.1:8000"]
ENTRYPOINT ["steersman", "serve"]
CMD ["smollm2"]
