"""The web app's door: it notes which requests were accepted, by the API's documentation alone."""

from __future__ import annotations

import json
import re
from typing import Any

from tools.simulator.history import History

_ONE = re.compile(r"/api/report-queue/(\d+)/(start|complete|fail|release|cancel|requeue)/")
_SCHEDULE = re.compile(r"/api/schedules/(\d+)/(?:(pause|resume|run|start-firing)/)?")
_DETAILS = ("run_id", "consumer", "generation", "begun")


class Door:
    """Sees each request with its answer, whether or not its caller gets the answer."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._runs: dict[str, tuple[int, str]] = {}
        """The row and the run of each lease token."""

    def passed(self, method: str, path: str, body: bytes, status: int, content: bytes) -> None:
        """Note what was asked and answered."""
        asked, answer = _json(body), _json(content)
        self._tell(method, path, asked, status, answer)
        if status >= 500 and status != 503:
            self._history.write("broken", text=f"{method} {path} was answered {status}")
        if status == 503 and method != "GET":
            self._perhaps(path)
        if status >= 300 or method == "GET":
            return
        if path == "/api/report-queue/":
            for item in answer if isinstance(answer, list) else [answer]:
                self._history.write("requested", row=item["queue_id"], key=item.get("idempotency_key"))
        elif path == "/api/report-queue/start/":
            for row in answer["rows"]:
                if row["code"] == 200:
                    self._started(row["queue_id"], asked["run_id"], row["answer"]["lease_token"])
        elif path == "/api/report-queue/complete/":
            tokens = {row["queue_id"]: row["lease_token"] for row in asked["rows"]}
            for row in answer["rows"]:
                if row["code"] == 200:
                    self._accepted(tokens[row["queue_id"]])
        elif found := _ONE.fullmatch(path):
            self._one(int(found[1]), found[2], asked, answer)
        elif found := _SCHEDULE.fullmatch(path):
            pk, verb = int(found[1]), found[2]
            if verb == "run":
                self._history.write("run now", row=answer["queue_id"], schedule=pk)
            elif verb == "start-firing":
                self._started(answer["queue_id"], asked["run_id"], answer["lease_token"])
            elif method == "DELETE":
                self._history.write("schedule", id=pk, sure=True, deleted=True)
            else:
                self._schedule(pk, answer)

    def _perhaps(self, path: str) -> None:
        """The database may have done it, although its answer was lost."""
        if (found := _ONE.fullmatch(path)) and found[2] in ("cancel", "requeue"):
            kind = "cancel" if found[2] == "cancel" else "cycle"
            self._history.write(kind, row=int(found[1]), sure=False)
        elif found := _SCHEDULE.fullmatch(path):
            self._history.write("schedule", id=int(found[1]), sure=False)

    def _one(self, row: int, verb: str, asked: Any, answer: Any) -> None:
        token = asked.get("lease_token")
        if verb == "start":
            self._started(row, asked["run_id"], answer["lease_token"])
        elif verb == "complete":
            self._accepted(token)
        elif verb == "requeue":
            self._history.write("cycle", row=row, sure=True)
        elif token is not None:
            self._history.write("given back", row=row, run=self._runs[token][1], verb=verb, begun=asked.get("begun"))
        elif verb == "fail":
            self._history.write("launch failed", row=row, run=asked.get("run_id"))
        elif verb == "cancel":
            self._history.write("cancel", row=row, sure=True)

    def _started(self, row: int, run: str, token: str) -> None:
        self._runs[token] = (row, run)
        self._history.write("started", row=row, run=run)

    def _accepted(self, token: str) -> None:
        row, run = self._runs[token]
        self._history.write("accepted", row=row, run=run)

    def _schedule(self, pk: int, answer: Any) -> None:
        fields = ("modifier_id", "cron", "enabled", "overlap")
        facts = {name: answer.get(name) for name in fields}
        self._history.write("schedule", id=pk, sure=True, deleted=False, **facts)

    def _tell(self, method: str, path: str, asked: Any, status: int, answer: Any) -> None:
        short = path.removeprefix("/api/")
        details = []
        if isinstance(asked, dict):
            details += [f"{name} {asked[name]}" for name in _DETAILS if name in asked]
            if "rows" in asked:
                details.append(f"rows {[row['queue_id'] for row in asked['rows']]}")
        said = ""
        if isinstance(answer, dict):
            if "queue" in answer:
                said = f": rows {[row['queue_id'] for row in answer['queue']]}"
            elif "rows" in answer:
                said = f": {[(row['queue_id'], row['code']) for row in answer['rows']]}"
            elif "status" in answer:
                said = f": {answer.get('detail') or answer['status']}"
        self._history.tell("web", f"{method} {short} ({', '.join(details)}) -> {status}{said}")


def _json(text: bytes) -> Any:
    try:
        return json.loads(text) if text else {}
    except ValueError:
        return {}
