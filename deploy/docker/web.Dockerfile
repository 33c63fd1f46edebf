# The web app, the scheduler and the commands. Build it from the root of the checkout:
# docker build -f deploy/docker/web.Dockerfile -t registry.example.com/reports-web:1.0.0 .
#
# It has the demo project. For a project of your own, copy that instead of `project`, and install what it needs.

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
    && /venv/bin/pip install --no-cache-dir -c constraints.txt '/build[django,metrics,openapi]' gunicorn whitenoise

FROM python:3.13.7-slim-bookworm
RUN groupadd --gid 10001 reports \
    && useradd --uid 10001 --gid reports --no-create-home --home-dir /var/lib/reportqueue reports \
    && install -d -o reports -g reports -m 700 /var/lib/reportqueue
COPY --from=build /venv /venv
WORKDIR /app
COPY manage.py ./
COPY project project
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 REPORTQUEUE_DATA_DIR=/var/lib/reportqueue
USER 10001:10001
EXPOSE 8000
CMD ["gunicorn", "-c", "python:reportqueue.gunicorn", "--bind", "0.0.0.0:8000", "project.wsgi"]
