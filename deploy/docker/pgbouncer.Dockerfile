# PgBouncer, as Debian has it. Its settings and its users are mounted.

FROM debian:bookworm-20250811-slim
# A release of Debian has one version of PgBouncer, with security fixes alone.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends pgbouncer \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 pool \
    && useradd --uid 10001 --gid pool --no-create-home --home-dir /nonexistent pool
USER 10001:10001
EXPOSE 6432
# It ends once its clients' transactions have ended. SIGTERM would cut them off.
STOPSIGNAL SIGINT
ENTRYPOINT ["pgbouncer"]
CMD ["/etc/pgbouncer/pgbouncer.ini"]
