"""`run.py release`: what it refuses, what it says to do about that, and what it leaves. Its builds: test_package.py."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
from collections.abc import Callable
from email.message import Message
from pathlib import Path

import pytest

from tools.runner import packages, release, stop_signals
from tools.runner.release import Candidate, Refused

VERSION = "2.3.4"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository whose only commit may be released on a day."""
    home = tmp_path / "checkout"
    (home / "reportqueue" / "api" / "openapi").mkdir(parents=True)
    describe(home, VERSION)
    change(home, f"# Changelog\n\n## {VERSION} (2027-01-31)\n\n### Added\n\n## 2.3.3 (2027-01-01)\n")
    git(home, "init", "--quiet")
    git(home, "config", "user.name", "Somebody")
    git(home, "config", "user.email", "somebody@example.com")
    commit(home)
    return home


def describe(home: Path, version: str) -> None:
    """Write the API's description."""
    document = {"info": {"version": version}}
    (home / "reportqueue" / "api" / "openapi" / "openapi.json").write_text(json.dumps(document))


def change(home: Path, changelog: str) -> None:
    """Write the changelog."""
    (home / "CHANGELOG.md").write_text(changelog)


def git(home: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=home, check=True)


def commit(home: Path) -> None:
    git(home, "add", "--all")
    git(home, "commit", "--quiet", "--message", "A change")


def candidate(checkout: Path, version: str = VERSION, *, check: bool = False) -> Candidate:
    return Candidate(checkout.parent, check, version, checkout)


def test_a_clean_tree_with_a_day_may_be_released(checkout: Path):
    assert release.working_tree(candidate(checkout)).endswith(" A change")
    assert release.version_and_changelog(candidate(checkout)) == "2.3.4 (2027-01-31)"


def test_each_file_that_no_commit_has_is_named(checkout: Path):
    change(checkout, "")
    (checkout / "new").mkdir()
    (checkout / "new" / "one.py").touch()
    with pytest.raises(Refused, match=r"(?s)no commit has:\n  CHANGELOG\.md\n  new/one\.py$") as refused:
        release.working_tree(candidate(checkout))
    assert "git stash --include-untracked" in refused.value.remedy


def test_ignored_files_do_not_matter(checkout: Path):
    (checkout / ".gitignore").write_text("dist/\n")
    commit(checkout)
    (checkout / "dist").mkdir()
    (checkout / "dist" / "earlier.whl").touch()
    release.working_tree(candidate(checkout))


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("2.3.x", r"2\.3\.x is no version by PEP 440"),
        ("", "is no version by PEP 440"),
        ("2.3.4-beta1", r"PEP 440 writes 2\.3\.4-beta1 as 2\.3\.4b1"),
        ("02.3.4", r"PEP 440 writes 02\.3\.4 as 2\.3\.4"),
        ("2.3.5", r"The first section of CHANGELOG\.md is not that of 2\.3\.5"),
        ("2.3.3", r"The first section of CHANGELOG\.md is not that of 2\.3\.3"),
    ],
)
def test_a_version_that_does_not_fit_is_refused(checkout: Path, version: str, said: str):
    with pytest.raises(Refused, match=said) as refused:
        release.version_and_changelog(candidate(checkout, version))
    assert release.SOURCE in refused.value.remedy


@pytest.mark.parametrize(
    ("heading", "said"),
    [
        (f"## {VERSION}", "has no day"),
        (f"## {VERSION} (soon)", "has no day"),
        (f"## {VERSION} (2027-02-30)", "has no day"),
        ("## Unreleased", "is not that of"),
        ("", "is not that of"),
        (f"### {VERSION} (2027-01-31)", "is not that of"),
    ],
)
def test_a_first_section_without_the_version_or_its_day_is_refused(checkout: Path, heading: str, said: str):
    change(checkout, f"# Changelog\n\n{heading}\n\nMore.\n")
    for check in (True, False):
        with pytest.raises(Refused, match=said):
            release.version_and_changelog(candidate(checkout, check=check))


def test_an_unreleased_version_is_checked_and_not_released(checkout: Path):
    change(checkout, f"# Changelog\n\n## {VERSION} (unreleased)\n")
    assert release.version_and_changelog(candidate(checkout, check=True)) == "2.3.4 (unreleased)"
    with pytest.raises(Refused, match="unreleased") as refused:
        release.version_and_changelog(candidate(checkout))
    assert "write the day" in refused.value.remedy


def test_the_description_of_another_version_is_refused(checkout: Path):
    describe(checkout, "2.3.3")
    with pytest.raises(Refused, match=r"that of 2\.3\.3") as refused:
        release.version_and_changelog(candidate(checkout))
    assert "tools.openapi" in refused.value.remedy


@pytest.mark.parametrize("options", [[], ["--annotate", "--message", "It"]], ids=["light", "annotated"])
def test_a_version_that_another_commit_has_is_refused(checkout: Path, options: list[str]):
    git(checkout, "tag", *options, f"v{VERSION}")
    release.version_and_changelog(candidate(checkout))  # the files may be made again
    (checkout / "more").touch()
    commit(checkout)
    with pytest.raises(Refused, match=r"v2\.3\.4 is the tag of another commit"):
        release.version_and_changelog(candidate(checkout))


@pytest.mark.parametrize(
    ("step", "check"),
    [
        (release.two_builds, "build_twice"),
        (release.wheel_of_the_sdist, "check_the_sdists_wheel"),
        (release.page, "check_page"),
        (release.content, "check_content"),
        (release.installations, "install"),
    ],
)
def test_what_is_unfit_is_refused_with_a_remedy(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, step: Callable[[Candidate], str], check: str
):
    def unfit(*arguments: object) -> None:
        raise packages.Unfit("It is broken.")

    tried = candidate(checkout)
    tried.commit, tried.source = "HEAD", checkout
    tried.built = packages.Built(checkout / "a.tar.gz", checkout / "a.whl")
    monkeypatch.setattr(packages, "unpack", lambda commit, folder: checkout)
    monkeypatch.setattr(packages, check, unfit)
    with pytest.raises(Refused, match="It is broken") as refused:
        step(tried)
    assert refused.value.remedy
    assert step in release.STEPS.values()


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("host", ["project.example", "www.python.org"])
def test_a_made_up_address_is_checked_and_not_released(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, check: bool, host: str
):
    metadata = Message()
    metadata["Project-URL"] = f"Homepage, https://{host}/here"
    tried = candidate(checkout, check=check)
    tried.built = packages.Built(checkout / "a.tar.gz", checkout / "a.whl")
    monkeypatch.setattr(packages, "check_page", lambda built: None)
    monkeypatch.setattr(packages, "metadata", lambda wheel: metadata)
    if host == "www.python.org":
        assert release.page(tried) == "an index would take both"
    elif check:
        assert release.page(tried).endswith("; project.example is no real address yet")
    else:
        with pytest.raises(Refused, match=r"project\.example is no real address"):
            release.page(tried)


def test_a_site_that_is_not_whole_is_refused(checkout: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(release.checks, "docs", lambda options: 1)
    with pytest.raises(Refused, match="site is not whole"):
        release.documentation(candidate(checkout))


def test_the_steps_end_at_the_first_that_fails_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    done: list[str] = []

    def fails(candidate: Candidate) -> str:
        with release._remedy("mend it."):
            raise packages.Unfit("It is broken.")

    steps = {"one": lambda candidate: "fine", "two": fails, "three": lambda candidate: done.append("three") or ""}
    monkeypatch.setattr(release, "STEPS", steps)
    assert release.run(argparse.Namespace(check=True)) == 1
    said = capsys.readouterr()
    assert said.out == "--- 1 of 3: one\nfine\n--- 2 of 3: two\n"
    assert said.err == "error: It is broken.\nWhat to do: mend it.\n"
    assert done == []


def test_a_release_leaves_its_files_with_their_sums_and_says_what_comes_next(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    built = packages.Built(checkout.parent / "reportqueue-2.3.4.tar.gz", checkout.parent / "reportqueue-2.3.4.whl")
    for file in built:
        file.write_text(file.name)

    def step(candidate: Candidate) -> str:
        candidate.version, candidate.checkout, candidate.built = VERSION, checkout, built
        release.working_tree(candidate)
        return "built"

    monkeypatch.setattr(release, "STEPS", {"a step": step})
    assert release.run(argparse.Namespace(check=True)) == 0
    assert not (checkout / "dist").exists()
    assert capsys.readouterr().out.endswith("\nrelease: 2.3.4 has passed\n")

    assert release.run(argparse.Namespace(check=False)) == 0
    said = capsys.readouterr().out
    for file in built:
        assert (checkout / "dist" / file.name).read_text() == file.name
        assert f"{hashlib.sha256(file.name.encode()).hexdigest()}  {file.name}\n" in said
    checked = ["sha256sum", "--check", "--strict", "reportqueue-2.3.4.sha256"]
    subprocess.run(checked, cwd=checkout / "dist", check=True, capture_output=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=checkout, capture_output=True, text=True, check=True).stdout
    assert f"git tag --annotate v2.3.4 --message 'reportqueue 2.3.4' {head}" in said
    assert "twine upload dist/reportqueue-2.3.4.tar.gz dist/reportqueue-2.3.4.whl" in said
    tags = subprocess.run(["git", "tag"], cwd=checkout, capture_output=True, text=True, check=True).stdout
    assert tags == "", "it does none of this itself"


def test_a_signal_between_two_steps_ends_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(release, "STEPS", {"a step": lambda candidate: "fine", "another": pytest.fail})
    monkeypatch.setattr(stop_signals, "_noted", [2])
    assert release.run(argparse.Namespace(check=True)) == 130


def test_tests_run_with_the_wheel_that_was_built(checkout: Path, monkeypatch: pytest.MonkeyPatch):
    tried = candidate(checkout)
    tried.built = packages.Built(checkout / "a.tar.gz", checkout / "a.whl")
    seen: list[object] = []

    def test(arguments: list[str]) -> int:
        seen.append((os.environ[release.WHEEL], arguments))
        return len(seen) - 1

    monkeypatch.setattr(release.checks, "test", test)
    release.tests(tried)
    assert seen == [(str(checkout / "a.whl"), release.TESTS)]
    with pytest.raises(Refused, match="A test has failed"):
        release.tests(tried)
    assert release.WHEEL not in os.environ
