"""The demo's report code: renders a report and uploads its page and table to the web app."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from dagster_reportqueue import ReportQueueClient, ReportRun
from project import reports


def make_report(run: ReportRun) -> Mapping[str, Any]:
    """Render one of the demo's reports and upload its page and table to the web app, which shows them."""
    run.progress("rendering")
    report = reports.render(run.report_id, run.modifier_id, run.params)
    run.progress("uploading")
    # The folder is of this report only, as a run may make many reports.
    place = run.run_id if run.queue_id is None else f"{run.run_id}/{run.queue_id}"
    client = ReportQueueClient(os.environ["REPORTQUEUE_URL"], os.environ["REPORTQUEUE_TOKEN"])
    artifacts = {}
    try:
        for name, kind, content in (
            ("report.html", "text/html", report.html),
            ("report.csv", "text/csv", report.csv),
        ):
            answer = client.request(
                "PUT",
                f"../artifacts/{place}/{name}",  # beside the API
                data=content.encode(),
                headers={"Content-Type": f"{kind}; charset=utf-8"},
            )
            artifacts[name] = answer["url"]
    finally:
        client.close()
    return {"title": report.title, "rows": report.rows, "artifacts": artifacts}
