# The job's image with Ray in it, for rayjob.yaml: head, workers and the job itself run from this one.
#   make build && make build-ray
ARG IMAGE=image-classification-job:0.1.0
# hadolint ignore=DL3006
FROM ${IMAGE}
ARG UV_VERSION=0.13.9
# KubeRay starts Ray with bash, and its probes ask with wget. uv is needed for the installation alone.
USER 0:0
# hadolint ignore=DL3008
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3-venv wget \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log
COPY requirements-ray.lock /opt/requirements-ray.lock
RUN /usr/bin/python3 -m venv /opt/uv \
 && /opt/uv/bin/pip install --no-cache-dir "uv==${UV_VERSION}" \
 && /opt/uv/bin/uv pip install --no-cache --python /opt/venv/bin/python --require-hashes -r /opt/requirements-ray.lock \
 && rm -rf /opt/uv \
 && ln -s /opt/venv/bin/ray /opt/venv/bin/python3 /usr/local/bin/
# A login shell would forget PATH; the links above stay. The entrypoint of the job is named in rayjob.yaml.
ENV PYTHONPATH=/app RAY_USAGE_STATS_ENABLED=0
USER 10001:10001
ENTRYPOINT []
CMD ["bash"]
