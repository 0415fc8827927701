# The job as an image. `make build` names version and commit; plain `docker build -t image-classification-job .` works too.
#   BASE_IMAGE  any Debian or Ubuntu with Python 3.10 or newer. The default brings NVIDIA's forward-compatibility
#               libraries, which let data-centre GPUs run CUDA 13 on an older driver; the CUDA libraries are in the wheels.
#   TORCH       empty for the locked wheels (CUDA 13.0, run on a CPU as well), `cpu`, or `cu126` for P100, V100 and drivers
#               older than 580 (then also BASE_IMAGE=nvidia/cuda:12.6.3-base-ubuntu24.04, which admits such drivers).
ARG BASE_IMAGE=nvidia/cuda:13.0.1-base-ubuntu24.04

# hadolint ignore=DL3006
FROM ${BASE_IMAGE} AS base
# Distribution packages are not pinned: their old versions leave the archive, and security fixes should come in.
# hadolint ignore=DL3008
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ca-certificates python3 tini \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log

# ---- the packages, in a virtual environment ---------------------------------------------------------------------------
FROM base AS packages
ARG UV_VERSION=0.13.9
# hadolint ignore=DL3008
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3-venv \
 && rm -rf /var/lib/apt/lists/* \
 && python3 -m venv /opt/uv \
 && /opt/uv/bin/pip install --no-cache-dir "uv==${UV_VERSION}"
WORKDIR /build
COPY requirements.in requirements.lock ./
ARG TORCH=
# PYC_INVALIDATION_MODE: bytecode stays valid whatever a builder does to the files' times.
ENV UV_LINK_MODE=copy PYC_INVALIDATION_MODE=unchecked-hash
# One layer, so that nothing that is removed was ever stored. What goes, and why nothing misses it (docs/image.md: sizes, test):
#   triton                        compiles kernels for torch.compile, which the job does not use
#   cusolverMg, nvblas, cufftw    for several GPUs in one solver, and for programs written against BLAS or FFTW
#   nvrtc.alt                     a second build of nvrtc, taken only where NVRTC is asked for it
#   nvperf, pcsampling, checkpoint  counters for profilers
#   nvshmem's transports          GPUs of several machines
#   headers, static libraries, device bitcode, protoc, tests   for building and testing other programs
#   grpc, tensorboard_data_server, webfiles.zip, werkzeug, markdown   TensorBoard's server: here it only writes what one shows
#   libonnxruntime, its tools and models, onnx's C++ and backend   for C++ programs, for language models, for those who test runtimes
#   greenlet, pycparser, alembic.testing, sqlalchemy.testing, mlflow.assistant   for SQL without waiting, for C, tests, a talk
# Bytecode: a few files are written for a newer Python and do not compile, hence the `|| true`.
# The packages lie in four layers, so that a pull fetches them side by side and a new torch does not fetch CUDA again.
# Of what follows and exports a run (TAKEN, the fourth) only the bytecode is stored that a start with MLflow needs.
RUN --mount=type=cache,target=/root/.cache/uv,sharing=locked \
    TAKEN="absl alembic anyio cryptography databricks fastapi git google mako ml_dtypes mlflow onnx onnx_ir onnxruntime" \
 && TAKEN="$TAKEN onnxscript opentelemetry pyasn1 pyasn1_modules sqlalchemy starlette tensorboard uvicorn yaml" \
 && /opt/uv/bin/uv venv -q --python /usr/bin/python3 /opt/venv \
 && if [ -z "$TORCH" ]; then set -- --require-hashes -r requirements.lock; \
    else set -- --no-verify-hashes --torch-backend="$TORCH" -c requirements.lock -r requirements.in; fi \
 && /opt/uv/bin/uv pip install --python /opt/venv/bin/python "$@" \
 && site=$(echo /opt/venv/lib/python3*/site-packages) \
 && rm -rf "$site"/triton "$site"/triton-* "$site"/torch/include "$site"/torch/share "$site"/torch/bin/protoc* \
      "$site"/grpc "$site"/grpcio-* "$site"/tensorboard_data_server* "$site"/tensorboard/webfiles.zip \
      "$site"/werkzeug* "$site"/markdown* "$site"/greenlet* "$site"/pycparser* "$site"/alembic/testing "$site"/sqlalchemy/testing "$site"/onnx/backend \
      "$site"/mlflow/assistant "$site"/onnxruntime/capi/libonnxruntime.so.* "$site"/onnxruntime/tools \
 && if [ -d "$site/nvidia" ]; then find "$site/nvidia" \( \
      -name 'libcusolverMg*' -o -name 'libnvblas*' -o -name 'libcufftw*' -o -name '*.alt.so*' -o -name 'libnvperf_*' \
      -o -name 'libpcsampling*' -o -name 'libcheckpoint*' -o -name 'nvshmem_transport_*' -o -name '*.a' -o -name '*.bc' \
      -o -type d -name include \) -prune -exec rm -rf {} +; fi \
 && rm -rf "$site"/onnxruntime/transformers/*/ \
 && find "$site/onnx" \( -name '*.cc' -o -name '*.h' \) -delete \
 && find "$site" -type d \( -name tests -o -name test \) -prune -exec rm -rf {} + \
 && for one in $TAKEN; do later="${later:-}|site-packages/$one/"; done \
 && { /opt/venv/bin/python -m compileall -qq -j 0 -x "${later#|}" "$site" || true; } \
 && /opt/venv/bin/python -c 'import boto3, hyperopt, jinja2, matplotlib.figure, pydantic_settings, torch, torchvision' \
 && /opt/venv/bin/python -B -c 'import sys, mlflow.tracking, mlflow.store.tracking.file_store, onnx.checker, onnxruntime.quantization, onnxscript; \
import torch.onnx, torch.utils.tensorboard; \
print(*{m.__file__ for m in [*sys.modules.values()] if (getattr(m, "__file__", 0) or "").endswith(".py") and "/onnx" not in m.__file__}, sep="\n")' \
    >/build/imported \
 && { /opt/venv/bin/python -m compileall -qq -i /build/imported || true; } \
 && for layer in nvidia torch $TAKEN; do \
      case " $TAKEN " in *" $layer "*) place=/layers/taken ;; *) place=/layers/$layer ;; esac; \
      mkdir -p "$place$site" && if [ -d "$site/$layer" ]; then mv "$site/$layer" "$place$site/"; fi; \
    done \
 && mkdir -p /layers/others/opt && mv /opt/venv /layers/others/opt/

# ---- the code --------------------------------------------------------------------------------------------------------
FROM base AS code
COPY LICENSE entrypoint.sh /app/
COPY deploy/sagemaker/train.py /app/deploy/sagemaker/
COPY job /app/job
# The commit is written down for results.json: there is no git in the image.
ARG GIT_COMMIT=
RUN if [ -n "$GIT_COMMIT" ]; then echo "$GIT_COMMIT" >/app/job/COMMIT; fi \
 && python3 -m compileall -q --invalidation-mode unchecked-hash /app \
 && chmod -R a+rX /app && chmod 755 /app/entrypoint.sh

# ---- the image -------------------------------------------------------------------------------------------------------
FROM base
COPY --from=packages /layers/nvidia/ /
COPY --from=packages /layers/torch/ /
COPY --from=packages /layers/others/ /
COPY --from=packages /layers/taken/ /
# Open to every user, so that --user works with any number. A mounted folder has its own permissions.
RUN install -d -m 1777 /outputs /data
COPY --from=code /app /app

# Only /outputs, /data and /tmp are written to. HOME, the caches and the user's name point there or need no passwd entry.
ENV PATH=/opt/venv/bin:$PATH \
    OUTPUT=/outputs DATA_DIR=/data \
    HOME=/tmp USER=job XDG_CACHE_HOME=/tmp/.cache MPLCONFIGDIR=/tmp/matplotlib TORCH_HOME=/data/torch \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 LANG=C.UTF-8 MLFLOW_DISABLE_TELEMETRY=true \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /tmp
USER 10001:10001
ARG VERSION=0.1.0
ARG GIT_COMMIT=
LABEL org.opencontainers.image.title="image-classification-job" \
      org.opencontainers.image.description="Tunes, trains and reports image classifiers, configured by the environment alone." \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${GIT_COMMIT}"
# tini is PID 1, so that signals reach the job and its orphans are reaped. The `--` keeps what a platform appends
# (SageMaker's `train`) from being read as tini's own arguments.
ENTRYPOINT ["/usr/bin/tini", "--", "/app/entrypoint.sh"]
# No HEALTHCHECK: a batch job offers no service to ask; its log tells progress and its exit code the outcome.
