"""The app of the Celery workers: that of the product, which attends its runs more often."""

from dagster_reportqueue import celery_worker
from tools.chaos.celery_launcher import RENEW_SECONDS

celery_worker.RENEW_SECONDS = RENEW_SECONDS
app = celery_worker.app
