# The service and the command line. A CPU build of torch is used where pip is given an index that has one:
#   docker build --build-arg PIP_EXTRA_INDEX_URL=<index with CPU wheels of torch> -t alta .
FROM python:3.11-slim-bookworm AS build
ARG PIP_EXTRA_INDEX_URL=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
RUN python -m venv /opt/alta
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY model model
COPY index index
COPY service service
COPY migrations migrations
RUN /opt/alta/bin/pip install -c constraints.txt '.[postgres]'

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --no-create-home alta && install -d -o alta -g alta /data
COPY --from=build /opt/alta /opt/alta
ENV PATH=/opt/alta/bin:$PATH PYTHONUNBUFFERED=1 ALTA_DATA_DIR=/data ALTA_HOST=0.0.0.0
USER 10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://localhost:8000/livez', timeout=4)"]
ENTRYPOINT ["alta"]
CMD ["serve"]
