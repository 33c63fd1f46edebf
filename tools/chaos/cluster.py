"""A stand-in for Kubernetes: the few verbs of its API that a run launcher uses. Each Job's pod is a local process.

`start_pod` starts it, and returns the process; a Job waits as Pending while no node has room for its pod. Nothing here
knows of reports.
"""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

JOBS = re.compile(r"/apis/batch/v1/namespaces/[^/]+/jobs(?:/([^/]+))?(?:/status)?")
PODS = re.compile(r"/api/v1/namespaces/[^/]+/pods(?:/([^/]+))?")
KUBECONFIG = """\
apiVersion: v1
kind: Config
current-context: stand-in
contexts: [{name: stand-in, context: {cluster: stand-in, user: nobody}}]
clusters: [{name: stand-in, cluster: {server: "%s"}}]
users: [{name: nobody, user: {}}]
"""


class Process(Protocol):
    """The process of a pod."""

    pid: int

    def exit_code(self) -> int | None:
        """How it has ended; None while it lives. Negative if it was killed."""


@dataclass
class Node:
    """A machine with room for so many pods."""

    name: str
    room: int
    ready: bool = True


@dataclass
class Job:
    """A Job and its only pod, which waits until it has a node."""

    body: dict[str, Any]
    node: Node | None = None
    process: Process | None = None
    deleted: bool = field(default=False)

    def status(self) -> dict[str, int]:
        """As Kubernetes counts the Job's pods."""
        code = None if self.process is None else self.process.exit_code()
        if code is not None:
            return {"succeeded": 1} if code == 0 else {"failed": 1}
        return {"active": 1, "ready": int(self.process is not None)}


class Cluster:
    """The Jobs, the nodes, and what the API answers; safe in several threads."""

    def __init__(self, nodes: list[Node], start_pod: Callable[[Node, dict[str, Any]], Process]) -> None:
        self.nodes = nodes
        self.away = False
        """Whether the API answers every request with 503."""
        self._start_pod = start_pod
        self._jobs: dict[str, Job] = {}
        self._lock = threading.RLock()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="cluster", daemon=True)
        self._thread.start()

    @property
    def kubeconfig(self) -> str:
        """The file with which a client reaches the API."""
        return KUBECONFIG % f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """Give the port back; the pods are left alone."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def place_pods(self) -> None:
        """Start the pods that wait, the oldest first, as far as the nodes have room."""
        with self._lock:
            for job in self._jobs.values():
                if job.process is None and not job.deleted and (node := self._node_with_room()) is not None:
                    job.node, job.process = node, self._start_pod(node, job.body)

    def pods_on(self, node: Node) -> list[Process]:
        """The living processes of a node's pods."""
        with self._lock:
            mine = [job.process for job in self._jobs.values() if job.node is node and job.process is not None]
        return [process for process in mine if process.exit_code() is None]

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """The API's answer: the status and the JSON."""
        if self.away:
            return 503, _refusal(503, "ServiceUnavailable", "etcdserver: request timed out")
        parts = urlsplit(path)
        with self._lock:
            if found := JOBS.fullmatch(parts.path):
                return self._jobs_verb(method, found[1], body)
            if found := PODS.fullmatch(parts.path):
                return self._pods_verb(method, found[1], parse_qs(parts.query))
        if parts.path.endswith("/events"):
            return 200, {"kind": "EventList", "apiVersion": "v1", "metadata": {}, "items": []}
        return 404, _refusal(404, "NotFound", f"the stand-in has no {method} {parts.path}")

    def _jobs_verb(self, method: str, name: str | None, body: Any) -> tuple[int, Any]:
        if method == "POST" and name is None:
            name = str(body["metadata"]["name"])
            if name in self._jobs:
                return 409, _refusal(409, "AlreadyExists", name)
            self._jobs[name] = Job(body)
            return 201, body
        job = self._jobs.get(name or "")
        if job is None or job.deleted:
            return 404, _refusal(404, "NotFound", str(name))
        if method == "DELETE":
            job.deleted = True
            self._end(job)
            return 200, {"kind": "Status", "apiVersion": "v1", "status": "Success"}
        return 200, {**job.body, "status": job.status()}

    def _pods_verb(self, method: str, name: str | None, query: dict[str, list[str]]) -> tuple[int, Any]:
        if method == "DELETE":
            if name not in self._jobs:
                return 404, _refusal(404, "NotFound", str(name))
            self._end(self._jobs[name])
            return 200, {"kind": "Status", "apiVersion": "v1", "status": "Success"}
        wanted = query.get("labelSelector", [""])[0].removeprefix("job-name=")
        pods = [_pod(name, job) for name, job in self._jobs.items() if name == wanted and not job.deleted]
        return 200, {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods}

    def _end(self, job: Job) -> None:
        if job.process is not None and job.process.exit_code() is None:
            with suppress(ProcessLookupError):
                os.kill(job.process.pid, signal.SIGTERM)

    def _node_with_room(self) -> Node | None:
        return next((one for one in self.nodes if one.ready and len(self.pods_on(one)) < one.room), None)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Callers may die while they ask."""


def _handler(cluster: Cluster) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 60

        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            status, answer = cluster.answer(self.command, self.path, body)
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_DELETE = do_GET  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    return Handler


def _refusal(code: int, reason: str, message: str) -> dict[str, Any]:
    return {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}


def _pod(name: str, job: Job) -> dict[str, Any]:
    code = None if job.process is None else job.process.exit_code()
    phase = ("Pending" if job.process is None else "Running") if code is None else "Failed" if code else "Succeeded"
    return {"metadata": {"name": name, "labels": {"job-name": name}}, "status": {"phase": phase}}
