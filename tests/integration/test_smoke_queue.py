from reportqueue import queue
from reportqueue.states import Status


def test_life(make_row):
    for status in Status:
        make_row(status=status)
    row = queue.enqueue(1, 2)
    claim = queue.claim("x", limit=10)
    assert row.pk in [r.pk for r in claim.rows]
    started = queue.start(row.pk, generation=1, run_id="r")
    queue.heartbeat(row.pk, lease_token=started.lease_token, progress="half")
    done = queue.complete(row.pk, lease_token=started.lease_token, result={"a": 1})
    assert done.status == Status.SUCCEEDED
    assert queue.complete(row.pk, lease_token=started.lease_token).processed
