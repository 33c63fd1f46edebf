"""The blocks of the pages, executed in order as a person would, with the wheel, from empty folders."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.acceptance.demos import clean_environment, http, wait_for
from tests.acceptance.terminals import Terminal
from tests.documents import RUN, Block, blocks
from tools.runner.environments import SYSTEM_CERTIFICATES
from tools.runner.stack import answers, free_port

PASSWORD = "long-enough-and-rare"
ANSWERS = {r"Username.*: ": "root", r"Email address: ": "", r"Password( \(again\))?: ": PASSWORD}
"""What a person types at the prompts of `createsuperuser`, by their patterns."""
APPEND = re.compile(r"\bto the end of `(\S+)`")
SAVE = re.compile(r"\bSave this as `(\S+)`")
DAGSTER_PAGES = ("docs/client.md", "docs/dagster.md", "docs/launcher.md", "docs/side-effects.md")
DAGSTER_SECTIONS = ("In your Dagster project", "The Dagster side")
DRIVER = Path(__file__).parent / "their_page.py"
TOKEN = re.compile(r"rq_[0-9A-Za-z]{12}_[0-9A-Za-z]{43}")

YOURS = {
    "shop/__init__.py": "",
    "shop/orders.py": (
        "from reportqueue import queue\n\n\n"
        "def place_order(customer):\n    queue.enqueue(3, customer, params={'order': 1})\n"
    ),
    "shop/mail.py": "def notify_somebody(*what):\n    print('notified of', *what)\n",
    "mysite/authentication.py": (
        "from rest_framework.authentication import BaseAuthentication\n\n\n"
        "class JWTAuthentication(BaseAuthentication):\n    def authenticate(self, request):\n        return None\n"
    ),
}
"""Files of the project that pages name as yours."""
A_SCHEDULE = """
from reportqueue.models import ReportSchedule

ReportSchedule.objects.exists() or ReportSchedule(report_id=3, modifier_id=17, cron="0 8 * * *").save()
"""
"""What people add in the admin, says the README."""
BEGINS_WITH = {"docs/migration.md": "python manage.py switch_pattern --to asset"}
"""By page: what its example presupposes."""
FAILING_REPORT = """
import shop.receivers
from reportqueue import queue
from reportqueue.testing import run_queue

queue.enqueue(report_id=3, modifier_id=1, max_attempts=1)
run_queue(lambda row: 1 / 0, raises=False)
"""
FOLLOWED_BY = {"docs/django.md": (FAILING_REPORT, r"^notified of \d+ 3$")}
"""By page: what a person tries after its blocks in Django's shell, and what that prints."""


class Road:
    """The README from its first line, then other pages from where it ends."""

    def __init__(self, folder: Path, wheel: Path, pinned: Path, database: dict[str, str]) -> None:
        """`pinned` has versions for pip; `database` has the variables of libpq that lead to an empty database."""
        self.web, self.ui = free_port(), free_port()
        self.ran: list[Block] = []
        self._dagster_token = "..."  # as the README has it, until it is known
        # A system's Python: without the environment in which the tests run.
        (folder / "bin").mkdir()
        (folder / "bin" / "python3").symlink_to(sys._base_executable)
        tests = Path(sys.executable).parent
        (folder / "bin" / "uv").symlink_to(tests / "uv")
        paths = [path for path in os.environ["PATH"].split(os.pathsep) if path != str(tests)]
        variables = clean_environment(
            PATH=os.pathsep.join([str(folder / "bin"), *paths]),
            UV_CONSTRAINT=str(pinned),
            **SYSTEM_CERTIFICATES,
            **database,
        )
        variables.pop("VIRTUAL_ENV", None)
        self.substitutions = (
            ("/path/to/reportqueue[", f"{wheel}["),
            # The same packages, in the same versions: pip needs half a minute to choose those of Dagster.
            ("pip install ", "uv pip install --quiet "),
            ('"NAME": "mysite"', f'"NAME": "{database["PGDATABASE"]}"'),
            (":8000", f":{self.web}"),
            (":3000", f":{self.ui}"),
            ("manage.py runserver", f"manage.py runserver 127.0.0.1:{self.web}"),
            ("dagster dev ", f"dagster dev --port {self.ui} "),
            # The pages' example of an instant that is to come, and of a connection pool beside the server.
            ("2026-12-01T08:00:00Z", (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT08:00:00Z")),
            ('"PORT": "6432"', f'"PORT": "{database["PGPORT"]}"'),
            ('"PORT": "5432"', f'"PORT": "{database["PGPORT"]}"'),
        )
        """All that differs from the pages, beside the token that `create_consumer` prints."""
        self._terminals: dict[bool, Terminal] = {}
        for dagster, name in ((False, "mysite"), (True, "reports")):
            (folder / name).mkdir()
            self._terminals[dagster] = Terminal(folder / name, variables, ANSWERS)
        self.django, self.dagster = self._terminals[False], self._terminals[True]

    def follow_readme(self) -> None:
        """All blocks of the README."""
        theirs = [block for block in blocks("README.md", *RUN) if _is_dagsters(block)]
        with ThreadPoolExecutor(1) as pool:  # the two sides are two folders: their packages are installed side by side
            installed = pool.submit(self.run, theirs[0])
            self.follow_django_side()
            installed.result()
        for block in theirs[1:]:
            self.run(block)

    def follow_django_side(self) -> None:
        """The README's blocks of the Django side."""
        for block in blocks("README.md", *RUN):
            if not _is_dagsters(block):
                self.run(block)

    def install_django_side(self) -> Path:
        """The README's blocks up to the installation; returns the Python of that environment."""
        for block in blocks("README.md", *RUN):
            if not self.django_python.exists():
                self.run(block)
        return self.django_python

    def follow(self, page: str) -> None:
        """All blocks of another page."""
        for path, text in YOURS.items():
            (self.django.home / path).parent.mkdir(exist_ok=True)
            (self.django.home / path).write_text(text)
        self.shell(A_SCHEDULE)
        if page in BEGINS_WITH:
            self.django.run(BEGINS_WITH[page])
        settings = self.django.home / "mysite" / "settings.py"
        as_it_was = settings.read_text()
        try:
            self._follow(page)
        finally:
            settings.write_text(as_it_was)

    def _follow(self, page: str) -> None:
        found = blocks(page, *RUN)
        parts = [block for block in found if _is_dagsters(block) and block.language == "python" and not _file(block)]
        for block in found:
            if block not in parts:
                self.run(block)
        if parts:
            self._run_parts([block for block in parts if not block.is_excused])
        if page in FOLLOWED_BY:
            code, said = FOLLOWED_BY[page]
            printed = self.shell(code)
            assert re.search(said, printed, re.MULTILINE), printed

    def run(self, block: Block) -> None:
        """Do what the page says with a block, once. Raises `AssertionError` with the block if it fails."""
        if block.is_excused or block in self.ran:
            return
        terminal, text = self._terminals[_is_dagsters(block)], self.text(block)
        if block.language == "yaml":
            self._load_instance(text)
        elif block.language == "sh":
            self.type(terminal, text)
        elif path := _file(block):
            self._write(terminal, block, path, text)
        else:
            self.shell(text)
        self.ran.append(block)

    def shell(self, code: str) -> str:
        """What this code prints in `manage.py shell`."""
        (self.django.home / "typed.py").write_text(code)
        return self.django.run("python manage.py shell <typed.py")

    def rows(self) -> list[dict[str, Any]]:
        """All rows of the queue, by their modifiers."""
        found: list[dict[str, Any]] = self._api("dagster", "GET", "?processed=any")["queue"]
        return sorted(found, key=lambda row: row["modifier_id"])

    def row(self, queue_id: int) -> dict[str, Any]:
        """A row with its attempts."""
        found: dict[str, Any] = self._api("dagster", "GET", f"{queue_id}/")
        return found

    def enqueue(self, report_id: int, modifier_id: int) -> int:
        """A row by the user `shop`, as the README's curl does; returns its id."""
        body = {"report_id": report_id, "modifier_id": modifier_id}
        queue_id: int = self._api("shop", "POST", "", json.dumps(body).encode())["queue_id"]
        return queue_id

    def token(self, user: str) -> str:
        """That `create_consumer` has printed for `dagster` or for `shop`."""
        if user == "dagster":
            return self._dagster_token
        found = re.search(r'SHOP_TOKEN="(\S+)"', (self.django.home / ".terminal").read_text())
        assert found is not None
        return found[1]

    def stop(self) -> None:
        """Ctrl-C in all terminals."""
        for terminal in (self.dagster, self.django):
            terminal.stop()

    @property
    def django_python(self) -> Path:
        """The interpreter of the Django side."""
        return self.django.home / ".venv" / "bin" / "python"

    @property
    def address(self) -> str:
        """Of the web app."""
        return f"http://127.0.0.1:{self.web}"

    def _api(self, user: str, method: str, path: str, body: bytes | None = None) -> Any:
        headers = {"Authorization": f"Token {self.token(user)}", "Content-Type": "application/json"}
        answer = http(method, f"{self.address}/api/report-queue/{path}", body, **headers)
        assert answer.status in (200, 201), answer.body
        return answer.json()

    def text(self, block: Block) -> str:
        """What is typed for the block here."""
        text = block.text
        for old, new in self.substitutions:
            text = text.replace(old, new)
        return text.replace("REPORTQUEUE_TOKEN=...", f"REPORTQUEUE_TOKEN={self._dagster_token}")

    def type(self, terminal: Terminal, text: str) -> None:
        """Paste these lines; a server among them goes on in a terminal of its own."""
        servers: dict[str, Callable[[], object]] = {
            "python manage.py runserver": lambda: answers(f"{self.address}/healthz"),
            "python manage.py enqueue_due_reports --loop": lambda: True,
            "dagster dev": lambda: answers(f"http://127.0.0.1:{self.ui}/server_info"),
        }
        typed: list[str] = []
        for line in text.splitlines():
            if ready := next((ready for server, ready in servers.items() if line.startswith(server)), None):
                self._paste(terminal, typed)
                terminal.serve(line, ready)
            else:
                typed.append(line)
        self._paste(terminal, typed)

    def _paste(self, terminal: Terminal, lines: list[str]) -> None:
        if not lines:
            return
        text = "\n".join(lines)
        lines.clear()
        printed = terminal.run(text)
        if "create_consumer dagster " in text and self._dagster_token == "...":
            self._dagster_token = TOKEN.findall(printed)[0]
        if not (terminal.home / "manage.py").exists() and "[django]" in text:
            terminal.run("python -m django startproject mysite .")  # the project that the reader has

    def _write(self, terminal: Terminal, block: Block, path: str, text: str) -> None:
        (found,) = [*terminal.home.glob(path), *terminal.home.glob(f"mysite/{path}")] or [terminal.home / path]
        if SAVE.search(block.before):
            found.write_text(text)
            return
        with found.open("a") as file:
            file.write(f"\n{text}")
        if block.page != "README.md":  # its next block does that
            terminal.run("python manage.py check --database default --fail-level WARNING")

    def _load_instance(self, text: str) -> None:
        """Dagster accepts a `dagster.yaml` and builds what it names."""
        home = self.dagster.home / "another_home"
        home.mkdir(exist_ok=True)
        (home / "dagster.yaml").write_text(text)
        code = "from dagster import DagsterInstance as i; i = i.get(); print(i.run_launcher, i.run_coordinator)"
        printed = self.dagster.run(f"DAGSTER_HOME='{home}' python -c '{code}'")
        for name in re.findall(r"class: (\w+)", text):
            assert name in printed

    def _run_parts(self, parts: list[Block]) -> None:
        """Parts of one code location: each is executed, and its jobs and sensors make a report."""
        told = self.dagster.home / "parts.json"
        told.write_text(json.dumps([[str(block), self.text(block)] for block in parts]))
        printed = self.dagster.run(f"SHOP_TOKEN={self.token('shop')} python '{DRIVER}' parts.json")
        assert re.findall(r"^ran (\S+)$", printed, re.MULTILINE) == [str(block) for block in parts], printed
        self.ran += parts

    def wait_until_made(self, count: int, seconds: float = 300) -> list[dict[str, Any]]:
        """The rows, once so many have succeeded."""

        def made() -> list[dict[str, Any]] | None:
            rows = self.rows()
            for row in rows:
                assert not row["error"], row
            return rows if [row["status"] for row in rows] == ["succeeded"] * count else None

        try:
            return wait_for(f"{count} reports", made, seconds)
        except AssertionError as error:
            logs = "\n".join(f"{server.line}\n{server.printed[-6000:]}" for server in self.dagster.servers)
            raise AssertionError(f"{error}\n{self.rows()}\n{logs}") from error


def _is_dagsters(block: Block) -> bool:
    return block.page in DAGSTER_PAGES or block.section in DAGSTER_SECTIONS


def _file(block: Block) -> str | None:
    found = APPEND.search(block.before) or SAVE.search(block.before)
    return found[1] if found and block.language == "python" else None
