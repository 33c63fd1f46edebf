"""The deliverer: takes deliveries, sends several at once, records what came of them, until it is stopped.

Only the thread that runs it uses the database. The others send.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from queue import Empty, SimpleQueue

from reportqueue import database, locks
from reportqueue.conf import conf
from reportqueue.errors import RowBusy
from reportqueue.outbox import alerts, deliveries, sending
from reportqueue.outbox.deliveries import Receiver, Taken
from reportqueue.outbox.sending import Answer
from reportqueue.outbox.watch import WATCH_SECONDS, watch

IDLE_SECONDS = 0.5
"""How often it looks for events while there are none. They are not notified: a NOTIFY at each commit would cost the
transactions that write them more than all else."""
UNSUBSCRIBED_SECONDS = 3.0
"""The same while there is no subscription."""
AHEAD_SECONDS = 5.0
"""It takes about as many deliveries as can be sent in this time."""
MOST_AHEAD = 100
"""Deliveries of one subscription that it has taken at once, at most."""
ABANDON_SECONDS = deliveries.LEASE_SECONDS / 3
"""What was taken for longer than this is given back unsent: it must have ended when its lease does."""
RECORD_AT_ONCE = 200
HELD_SECONDS = 60.0
"""How often it looks for deliveries that a clock which was set back holds up."""
RETRY_SECONDS = 1.0
UNEXPECTED_SECONDS = 5.0
logger = logging.getLogger("reportqueue")


class Deliverer:
    """Delivers what is due. Any number may work at once, also in several processes."""

    def __init__(self, threads: int | None = None) -> None:
        """`threads`: how many deliveries are sent at once; None: `WEBHOOK_THREADS`, but at least one."""
        self._threads = threads or max(1, int(conf().webhook_threads))
        self._each = max(1, self._threads // 2)
        """How many of the threads one subscription may have: a slow receiver must not hold up the others."""
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="reportqueue-webhook")
        self._done: SimpleQueue[tuple[Taken, Answer]] = SimpleQueue()
        self._receivers: dict[int, Receiver] = {}
        """The enabled subscriptions, as they were at the last step."""
        self._waiting: dict[int, list[tuple[Taken, float]]] = {}
        """By subscription: what was taken and is not being sent yet, with when it was taken. The first one is next."""
        self._sending: Counter[int] = Counter()
        self._seconds: dict[int, float] = {}
        """By subscription: how long an attempt usually takes."""
        self._unrecorded: list[tuple[Taken, Answer]] = []
        self._subscribed = True
        self.delivered = 0

    def run(
        self, stop: threading.Event, *, seconds: float | None = None, meanwhile: Callable[[], None] = lambda: None
    ) -> None:
        """Work until `stop` is set, calling `meanwhile` between the steps.

        With `seconds`, it works no longer than that, and only until nothing is due.

        At the end, what is being sent is awaited and recorded, what is not is given back.
        """
        ends = None if seconds is None else time.monotonic() + seconds
        try:
            while not stop.is_set() and (ends is None or time.monotonic() < ends):
                meanwhile()
                if not self.step() and not self._sending.total():
                    if ends is not None:
                        return
                    stop.wait(IDLE_SECONDS if self._subscribed else UNSUBSCRIBED_SECONDS)
        finally:
            self._finish()

    def step(self) -> bool:
        """Take, start and record what can be now; whether there was anything to do. Waits shortly for what is sent."""
        self._receivers = {one.pk: one for one in deliveries.receivers()}
        self._subscribed = bool(self._receivers)
        self._leave_alone()
        rooms = {pk: room for pk, one in self._receivers.items() if (room := self._room(one)) > 0}
        taken = deliveries.take(rooms) if rooms else []
        now = time.monotonic()
        for one in taken:
            self._waiting.setdefault(one.subscription_id, []).append((one, now))
        self._start()
        recorded = self._record(wait=bool(self._sending.total()))
        return bool(taken) or recorded

    def _leave_alone(self) -> None:
        """Give back what is not to be sent now: its subscription is disabled, deleted, or probed only."""
        gone = [
            pk
            for pk, waiting in self._waiting.items()
            if (one := self._receivers.get(pk)) is None or (one.failing and len(waiting) + self._sending[pk] > 1)
        ]
        self._give_back([one for pk in gone for one, _ in self._waiting.pop(pk)])

    def _room(self, one: Receiver) -> int:
        """How many deliveries of a subscription may be taken beside those that it has."""
        held = self._sending[one.pk] + len(self._waiting.get(one.pk, ()))
        if one.failing:
            return 1 if one.may_be_probed and not held else 0
        usual = max(self._seconds.get(one.pk, AHEAD_SECONDS), 0.001)
        wanted = min(MOST_AHEAD, max(self._each, int(self._each * AHEAD_SECONDS / usual)))
        # In whole batches: each costs a transaction.
        return wanted - held if held <= wanted // 2 else 0

    def _start(self) -> None:
        """Hand over to the threads what there is a thread for; the subscriptions take turns."""
        late = time.monotonic() - ABANDON_SECONDS
        stale: list[Taken] = []
        started = True
        while started and self._sending.total() < self._threads:
            started = False
            for pk, waiting in list(self._waiting.items()):
                while waiting and waiting[0][1] < late:
                    stale.append(waiting.pop(0)[0])
                if waiting and self._sending[pk] < self._each and self._sending.total() < self._threads:
                    one, _ = waiting.pop(0)
                    self._sending[pk] += 1
                    self._pool.submit(self._send, one, self._receivers[pk])
                    started = True
                    self._waiting[pk] = self._waiting.pop(pk)  # the next thread is for the others first
                if not waiting:
                    del self._waiting[pk]
        self._give_back(stale)

    def _send(self, one: Taken, receiver: Receiver) -> None:
        """In a thread of the pool: nothing here uses the database."""
        try:
            body = one.body
            signed = deliveries.headers(one.message_id, datetime.now(UTC), body, receiver.keys)
            answer = sending.post(receiver.url, body, signed)
        except Exception:
            logger.exception("Webhook delivery %s could not be sent.", one.pk)
            answer = Answer(None, 0, receiver.url, problem="An error of the sender; its log says more.")
        self._done.put((one, answer))

    def _record(self, *, wait: bool) -> bool:
        """Record what has ended, after a short wait for the first; whether there was any."""
        ended = self._unrecorded
        try:
            while len(ended) < RECORD_AT_ONCE:
                one, answer = self._done.get(block=wait and not ended, timeout=IDLE_SECONDS)
                self._sending[one.subscription_id] -= 1
                ended.append((one, answer))
        except Empty:
            pass
        if not ended:
            return False
        self._start()  # the threads need not wait for the database
        try:
            deliveries.record(ended)
        except RowBusy:  # somebody edits a subscription: it is recorded with the next ones
            return True
        self._unrecorded = []
        for one, answer in ended:
            self._note(one, answer)
        return True

    def _note(self, one: Taken, answer: Answer) -> None:
        took = answer.milliseconds / 1000
        self._seconds[one.subscription_id] = self._seconds.get(one.subscription_id, took) * 0.8 + took * 0.2
        if answer.delivered:
            self.delivered += 1
        else:
            text = "Webhook %s to subscription %s was not delivered: %s"
            logger.warning(text, one.kind, one.subscription_id, answer.problem)

    def _give_back(self, unsent: list[Taken]) -> None:
        for token in {one.lease_token for one in unsent}:
            deliveries.give_back([one for one in unsent if one.lease_token == token])

    def _finish(self) -> None:
        unsent = [one for waiting in self._waiting.values() for one, _ in waiting]
        self._waiting.clear()
        self._pool.shutdown(wait=True)
        try:
            self._give_back(unsent)
            while self._record(wait=False) and not self._unrecorded:
                pass
        except Exception as error:
            if not locks.is_away(error):
                raise
            logger.warning("What was sent last could not be recorded, and will be sent again: %s", _line(error))


def work(stop: threading.Event, *, threads: int | None = None) -> None:
    """Deliver, watch and send alerts until `stop` is set, through restarts of the database.

    `threads` is that of `Deliverer`.
    """
    # In a thread of its own: a mail server that does not answer must not hold up webhooks.
    thread = threading.Thread(target=_send_alerts, args=(stop,), name="reportqueue-alerts")
    thread.start()
    try:
        _deliver(stop, threads)
    finally:
        stop.set()
        thread.join()


def _deliver(stop: threading.Event, threads: int | None) -> None:
    watched = freed = -math.inf

    def look() -> None:
        nonlocal watched, freed
        if time.monotonic() - watched >= WATCH_SECONDS:
            _beside(watch, "The look for what is late")
            watched = time.monotonic()
        if time.monotonic() - freed >= HELD_SECONDS:
            _beside(deliveries.free_held, "The look for deliveries that are held up")
            freed = time.monotonic()

    _through_errors(stop, lambda: Deliverer(threads).run(stop, meanwhile=look), "The delivery of webhooks")


def _send_alerts(stop: threading.Event) -> None:
    def step() -> None:
        alerts.step(stop.is_set)
        stop.wait(WATCH_SECONDS)

    try:
        _through_errors(stop, step, "The sending of alerts")
    finally:
        database.close()


def _beside(work: Callable[[], object], what: str) -> None:
    """Do what goes on beside the delivery: an error of its own holds up no webhooks. Raises if the database is away."""
    try:
        work()
    except Exception as error:
        if locks.is_away(error):
            raise
        logger.exception("%s failed. Webhooks are sent all the same.", what)


def _through_errors(stop: threading.Event, work: Callable[[], None], what: str) -> None:
    """Repeat it until `stop` is set, after a pause if it fails."""
    while not stop.is_set():
        try:
            work()
        except Exception as error:
            if locks.is_away(error):
                logger.warning("%s %s waits for it: %s", locks.why_away(error), what, _line(error))
                database.close()
                stop.wait(RETRY_SECONDS)
            else:
                logger.exception("%s failed, trying again in %s s.", what, UNEXPECTED_SECONDS)
                stop.wait(UNEXPECTED_SECONDS)


def deliver_for(seconds: float, *, threads: int | None = None) -> int:
    """Look, and deliver what is due, for so many seconds or until nothing is; how many were delivered.

    `threads` is that of `Deliverer`.
    """
    _beside(watch, "The look for what is late")
    _beside(alerts.step, "The sending of alerts")
    _beside(deliveries.free_held, "The look for deliveries that are held up")
    deliverer = Deliverer(threads)
    deliverer.run(threading.Event(), seconds=seconds)
    return deliverer.delivered


@contextmanager
def in_background() -> Iterator[None]:
    """Deliver in a thread of this process meanwhile, unless `WEBHOOK_THREADS` is 0."""
    if not conf().webhook_threads:
        yield
        return
    stop = threading.Event()

    def deliver() -> None:
        try:
            work(stop)
        finally:
            database.close()

    thread = threading.Thread(target=deliver, name="reportqueue-deliverer")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
