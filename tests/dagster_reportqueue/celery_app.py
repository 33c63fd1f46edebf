"""The app of the tests' Celery workers: that of the product, which attends its runs more often."""

from dagster_reportqueue import celery_worker

celery_worker.RENEW_SECONDS = 0.5
app = celery_worker.app
