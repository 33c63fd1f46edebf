"""The demo's jobs: one report a run, and many reports a run."""

from dagster_reportqueue import Environment, build_batch_job, build_report_job
from orchestrator.reports import make_report

environment = Environment.read()
report_job = build_report_job(make_report, lease_seconds=environment.lease_seconds)
batch_job = build_batch_job(make_report, lease_seconds=environment.lease_seconds)
