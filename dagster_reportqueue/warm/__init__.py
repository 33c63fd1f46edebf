"""The warm server: a process that imports a code location once and then forks a process for each run.

`python -m dagster_reportqueue.warm` is the server; `server_process.ServerProcess` starts one and sends it runs. It does
not depend on reports: it works with any code location, and a code location does not have to know of it.

It uses internals of Dagster, so it is refused on versions of Dagster on which it is not tested.
"""

from importlib.metadata import version

SUPPORTED = ("1.12", "1.13")
"""The minor versions of Dagster on which the launcher is tested."""


class UnsupportedDagster(ImportError):
    """The launcher cannot be used with the installed version of Dagster; the message says what to do."""


def refuse_other_versions(installed: str) -> None:
    """Raises `UnsupportedDagster` unless the installed version of Dagster is one of `SUPPORTED`."""
    if ".".join(installed.split(".")[:2]) not in SUPPORTED:
        raise UnsupportedDagster(
            f"The warm launcher works with Dagster {' and '.join(SUPPORTED)}; {installed} is installed. Install one of "
            "these versions, or take run_launcher and run_coordinator out of dagster.yaml: everything else of "
            "dagster_reportqueue works without the warm launcher."
        )


# Here, before the launcher's modules import what another version may not have.
refuse_other_versions(version("dagster"))
