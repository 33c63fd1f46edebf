# Dagster's daemon, web server, code server and runs, which have the same code. Build it from the root of the checkout:
# docker build -f deploy/docker/dagster.Dockerfile -t registry.example.com/reports-dagster:1.0.0 .
#
# It has the demo's code location and its reports. For those of your own, copy them instead of `orchestrator` and
# `project`, and install what they need. Nothing of Django is in it.

FROM python:3.13.7-slim-bookworm AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /build
COPY requirements.txt ./
# The versions of the lock, without its hashes: the project itself has none there.
RUN sed -E '/^ /d; s/ \\$//' requirements.txt > constraints.txt
COPY pyproject.toml README.md LICENSE ./
COPY reportqueue reportqueue
COPY dagster_reportqueue dagster_reportqueue
COPY reportcron reportcron
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir -c constraints.txt '/build[dagster]' \
        dagster-webserver dagster-postgres dagster-k8s pandas matplotlib vega_datasets

FROM python:3.13.7-slim-bookworm
RUN groupadd --gid 10001 reports \
    && useradd --uid 10001 --gid reports --no-create-home --home-dir /opt/dagster reports \
    && install -d -o reports -g reports -m 700 /opt/dagster /opt/dagster/home /opt/dagster/home/storage
COPY --from=build /venv /venv
WORKDIR /app
COPY orchestrator orchestrator
COPY project project
ENV PATH=/venv/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    DAGSTER_HOME=/opt/dagster/home MPLCONFIGDIR=/tmp/matplotlib
USER 10001:10001
CMD ["dagster", "api", "grpc", "-m", "orchestrator.definitions", "-h", "0.0.0.0", "-p", "4000"]
