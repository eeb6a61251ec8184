# The service and the command line, from the locks with hashes of requirements/. On a GPU:
#   docker build --build-arg VARIANT=cuda -t alta:0.1.0-cuda .
# On a processor, where pip has to be told of an index with torch's CPU wheels (requirements/cpu.lock has their hashes):
#   docker build --build-arg TORCH_INDEX=<its URL> -t alta:0.1.0-cpu .
ARG PYTHON=3.11

FROM python:${PYTHON}-slim-bookworm AS build
ARG VARIANT=cpu
ARG TORCH_INDEX=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements/*.lock requirements/
# The environment gets no pip of its own: nothing is installed in a running container.
RUN python -m venv --without-pip /opt/alta \
    && PIP_EXTRA_INDEX_URL="${TORCH_INDEX}" pip --python /opt/alta/bin/python install --only-binary :all: \
        --require-hashes -r "requirements/${VARIANT}.lock" \
    # torch's own tests and what one compiles against it: 190 MB
    && rm -r /opt/alta/lib/python*/site-packages/torch/test /opt/alta/lib/python*/site-packages/torch/include \
    && find /opt/alta/lib/python*/site-packages/torch/bin -type f ! -name torch_shm_manager -delete
COPY pyproject.toml README.md LICENSE ./
COPY model model
COPY index index
COPY service service
COPY migrations migrations
# With the lock's own setuptools: what is not in the lock is not fetched.
RUN pip --python /opt/alta/bin/python install --no-deps --no-index --no-build-isolation . \
    && /opt/alta/bin/alta --help > /dev/null

FROM python:${PYTHON}-slim-bookworm
ARG PYTHON
ARG VARIANT=cpu
ARG VERSION=""
ARG REVISION=""
LABEL org.opencontainers.image.title="alta-retrieval" \
      org.opencontainers.image.description="Finds the past chest radiographs and reports that resemble a study. For research, not for clinical use." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="python:${PYTHON}-slim-bookworm" \
      alta.variant="${VARIANT}"
# Names of time zones (TZ) are looked up there: without them all of them would be UTC.
RUN test -d /usr/share/zoneinfo/Europe \
    && groupadd --system --gid 10001 alta \
    && useradd --system --uid 10001 --gid alta --home-dir /tmp --no-create-home --shell /usr/sbin/nologin alta \
    && install -d -m 0700 -o alta -g alta /data
COPY --from=build /opt/alta /opt/alta
# Written to are /data and /tmp alone: the root file system may be read-only. Libraries look nothing up on the internet.
ENV PATH=/opt/alta/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HF_HUB_OFFLINE=1 \
    ALTA_DATA_DIR=/data ALTA_HOST=0.0.0.0 ALTA_LOG_FORMAT=json
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s --start-interval=2s \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f\"http://127.0.0.1:{os.environ.get('ALTA_PORT', 8000)}/livez\", timeout=4)"]
ENTRYPOINT ["alta"]
CMD ["serve"]
