"""The example files of deploy/, as the tests read them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from configparser import ConfigParser
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
MIGRATIONS = KUBERNETES / "migrations"
Resource = dict[str, Any]


def documents(path: Path) -> list[Any]:
    """The documents of a YAML file."""
    return [found for found in yaml.safe_load_all(path.read_text()) if found is not None]


def document(path: Path) -> Any:
    """The only document of a YAML file."""
    (found,) = documents(path)
    return found


def compose() -> dict[str, Any]:
    """compose.yaml, with its anchors and merges."""
    found: dict[str, Any] = document(DEPLOY / "compose.yaml")
    return found


def applied(folder: Path) -> list[Resource]:
    """What `kubectl apply -k` of this folder makes: its files and its generated maps, without the tags of images."""
    chosen = document(folder / "kustomization.yaml")
    found = [one for name in chosen["resources"] for one in documents(folder / name)]
    for made in chosen["configMapGenerator"]:
        data = {name: (folder / name).read_text() for name in made["files"]}
        found.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": made["name"]}, "data": data})
    return found


def secrets() -> list[Resource]:
    """The examples of the Secrets."""
    return documents(KUBERNETES / "secrets.example.yaml")


def tags(folder: Path) -> dict[str, str]:
    """The tag of each image, by the image's name."""
    return {one["name"]: one["newTag"] for one in document(folder / "kustomization.yaml")["images"]}


def pods(resources: list[Resource]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The name of each resource that makes pods, and the pods' template."""
    for one in resources:
        if one["kind"] in ("Deployment", "Job"):
            yield one["metadata"]["name"], one["spec"]["template"]


def named(resources: list[Resource], kind: str) -> dict[str, Resource]:
    """The resources of a kind, by name; there are no two of one name."""
    found = [one for one in resources if one["kind"] == kind]
    by_name = {one["metadata"]["name"]: one for one in found}
    assert len(by_name) == len(found), f"two of kind {kind} have one name"
    return by_name


def keys(resource: Resource) -> set[str]:
    """The keys of a ConfigMap or Secret."""
    return {*resource.get("data", {}), *resource.get("stringData", {})}


def settings_of_pgbouncer(path: Path) -> dict[str, str]:
    """The section `[pgbouncer]`."""
    parser = ConfigParser(interpolation=None)
    parser.read(path)
    return dict(parser["pgbouncer"])


@dataclass(frozen=True)
class Unit:
    """A unit of systemd: its settings in order, as some appear twice."""

    name: str
    settings: tuple[tuple[str, str], ...]

    def all(self, name: str) -> list[str]:
        """All values of a setting."""
        return [value for key, value in self.settings if key == name]

    def one(self, name: str) -> str:
        """The only value of a setting."""
        (value,) = self.all(name)
        return value

    @property
    def variables(self) -> dict[str, str]:
        """The environment that the unit sets itself."""
        pairs = [pair.partition("=")[::2] for line in self.all("Environment") for pair in line.split()]
        return dict(pairs)


def units() -> list[Unit]:
    """All units."""
    found = []
    for path in sorted((DEPLOY / "systemd").glob("*.service")):
        lines = [line.partition("=") for line in path.read_text().splitlines() if re.match(r"\w+=", line)]
        found.append(Unit(path.name, tuple((name, value) for name, _, value in lines)))
    return found


def dockerfiles() -> list[Path]:
    """All Dockerfiles."""
    return sorted((DEPLOY / "docker").glob("*.Dockerfile"))


def instructions(path: Path) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile, each on one line."""
    text = re.sub(r"^#.*\n", "", path.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    pairs = [line.split(None, 1) for line in text.splitlines() if line.strip()]
    return [(name, " ".join(rest.split())) for name, rest in pairs]
