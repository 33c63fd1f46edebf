"""The job, the partition and the tags of a row's run, as the sensor's functions choose them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self, TypeAlias

from dagster import (
    AddDynamicPartitionsRequest,
    DagsterInstance,
    DynamicPartitionsDefinition,
    JobDefinition,
    PartitionsDefinition,
    RunRequest,
    SensorEvaluationContext,
    partition_loading_context,
)

from dagster_reportqueue.arguments import (
    A_JOB,
    JOBS,
    NO_FUNCTIONS,
    check_function,
    check_list,
    check_op,
    check_type,
    refusal,
    shown,
)
from dagster_reportqueue.client import QueueItem
from dagster_reportqueue.client.parsing import storable
from dagster_reportqueue.sensors.ticks import AnyJob, TickFailed
from dagster_reportqueue.tickets import BATCH_OP

JobOf: TypeAlias = Callable[[QueueItem], "AnyJob | str"]
JobChoice: TypeAlias = "AnyJob | JobOf"
PartitionKeyOf = Callable[[QueueItem], str | None]
RunTagsOf = Callable[[QueueItem], Mapping[str, str]]
OF_FUNCTIONS = (Exception, SystemExit)
"""What the sensor's functions may raise for one row without harm to the others: `sys.exit` would end the whole tick."""
MAX_TAGS = 20
MAX_TAG_CHARACTERS = 4_096
MAX_PARTITION_KEY_CHARACTERS = 200
RESERVED_PREFIXES = ("reportqueue/", "dagster/", ".dagster/")
ALLOWED_TAGS = frozenset({"dagster/max_runtime", "dagster/image"})
"""Dagster's tags that a person may set on a run. The others are set by the sensor or by Dagster."""
_TAG_NAME = re.compile(r"([A-Za-z0-9_.-]{1,63}/)?[A-Za-z0-9_.-]{1,63}")


class BadTarget(ValueError):
    """No run can be requested for the row; the text names the sensor's argument and the reason."""


@dataclass(frozen=True)
class Target:
    """What a row's run is. Rows share a run only if they have the same target."""

    job: str
    partition_key: str | None
    tags: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Targets:
    """Chooses the targets of rows, by the sensor's arguments."""

    jobs: Sequence[AnyJob]
    job_of: JobOf | None
    """Which of several jobs a row gets."""
    partition_key: PartitionKeyOf | None
    run_tags: RunTagsOf | None
    batch_job: JobDefinition | None

    @classmethod
    def of(
        cls,
        job: JobChoice,
        jobs: Sequence[AnyJob],
        *,
        partition_key: PartitionKeyOf | None,
        run_tags: RunTagsOf | None,
        batch_job: JobDefinition | None,
    ) -> Self:
        """From the arguments of the sensor. Raises `ValueError` or `TypeError` for arguments that cannot work."""
        check_list("jobs", jobs, JOBS, A_JOB)
        check_function("partition_key", partition_key, "a function from a row to a partition", optional=True)
        check_function("run_tags", run_tags, "a function from a row to further tags of its run", optional=True)
        check_type("batch_job", batch_job, (JobDefinition, type(None)), "a job of build_batch_job, or None")
        check_op("batch_job", batch_job, BATCH_OP, "take a job of build_batch_job.")
        if isinstance(job, JOBS):
            if jobs:
                raise ValueError("With jobs, job must be a function from a row to one of them.")
            made = cls([job], None, partition_key, run_tags, batch_job)
        elif callable(job) and not isinstance(job, NO_FUNCTIONS):
            if not jobs:
                raise ValueError("job is a function: name in jobs all jobs that it may return.")
            made = cls(list(jobs), job, partition_key, run_tags, batch_job)
        else:
            raise TypeError(refusal("job", f"{A_JOB}, or a function from a row to one of the jobs", job))
        # The definition of an asset job does not know the partitions of its assets: the tick checks such jobs.
        known = all(isinstance(one, JobDefinition) for one in made.all())
        made._check({one.name: one.partitions_def for one in made.all()}, whole=known)
        return made

    @property
    def vary(self) -> bool:
        """Whether the rows of a claim may have different targets."""
        return any(function is not None for function in (self.job_of, self.partition_key, self.run_tags))

    def all(self) -> list[AnyJob]:
        """Every job that the sensor may launch."""
        return [*self.jobs, *([] if self.batch_job is None else [self.batch_job])]

    def of_tick(self, context: SensorEvaluationContext) -> TickTargets:
        """The targets of one tick, with the jobs of the loaded code location. Raises `TickFailed` as at the start."""
        repository = context.repository_def
        if repository is not None:
            known = {job.name: repository.get_job(job.name) for job in self.all()}
        else:  # without a code location, an asset job does not know its partitions
            known = {job.name: job for job in self.all() if isinstance(job, JobDefinition)}
        try:
            self._check({name: job.partitions_def for name, job in known.items()}, whole=len(known) == len(self.all()))
        except ValueError as error:
            raise TickFailed(str(error)) from None
        return TickTargets(self, known, context.instance)

    def _check(self, partitions: Mapping[str, PartitionsDefinition | None], *, whole: bool) -> None:
        """`whole`: whether the partitions of all jobs are known."""
        for name, found in partitions.items():
            if found is not None and self.partition_key is None:
                raise ValueError(
                    f"The job {name} has partitions, and the sensor has no partition_key: each of its runs would "
                    "fail. Give the sensor a job without partitions, or a partition_key."
                )
        if not whole:
            return
        batch = None if self.batch_job is None else self.batch_job.name
        others = [found for name, found in partitions.items() if name != batch]
        if self.partition_key is not None and all(found is None for found in others):
            raise ValueError("The sensor has a partition_key, and none of its jobs has partitions: leave it out.")
        if batch is not None and partitions[batch] not in others:
            raise ValueError(
                f"The batch job {batch} has other partitions than the jobs whose rows it is to make: give it the same."
            )


@dataclass(frozen=True)
class TickTargets:
    """The targets of the rows of one tick."""

    targets: Targets
    known: Mapping[str, JobDefinition]
    """By their names; without asset jobs if the sensor is called without a code location."""
    instance: DagsterInstance

    def of_row(self, item: QueueItem) -> Target:
        """The row's target. Raises `BadTarget`."""
        job = self._job(item)
        return Target(job, self._partition_key(item, job), self._tags(item))

    def can_batch(self, target: Target) -> bool:
        """Whether rows of this target can share a run: the batch job needs the partitions of their own job."""
        batch_job = self.targets.batch_job
        if batch_job is None or target.job not in self.known:
            return batch_job is not None
        return self.known[batch_job.name].partitions_def == self.known[target.job].partitions_def

    def new_partitions(self, requests: Iterable[RunRequest]) -> list[AddDynamicPartitionsRequest]:
        """Requests for the dynamic partitions of these runs that do not exist yet."""
        wanted: dict[str, set[str]] = {}
        for request in requests:
            name = self._dynamic(request.job_name or "")
            if name is not None and request.partition_key is not None:
                wanted.setdefault(name, set()).add(request.partition_key)
        missing = {
            name: sorted(key for key in keys if not self.instance.has_dynamic_partition(name, key))
            for name, keys in wanted.items()
        }
        return [AddDynamicPartitionsRequest(name, keys) for name, keys in missing.items() if keys]

    def _job(self, item: QueueItem) -> str:
        names = [job.name for job in self.targets.jobs]
        if self.targets.job_of is None:
            return names[0]
        with _blamed("job"):
            chosen = self.targets.job_of(item)
            name = chosen if isinstance(chosen, str) else chosen.name
            if name not in names:
                raise ValueError(f"{shown(name)} is none of the sensor's jobs: {', '.join(names)}.")
            return name

    def _partition_key(self, item: QueueItem, job: str) -> str | None:
        if self.targets.partition_key is None:
            return None
        with _blamed("partition_key"):
            key = self.targets.partition_key(item)
            if not (key is None or isinstance(key, str)):
                raise TypeError(f"it must return a text or None, not {type(key).__name__}.")
            if job in self.known:
                _check_key(key, job, self.known[job].partitions_def, self.instance)
            return key

    def _tags(self, item: QueueItem) -> tuple[tuple[str, str], ...]:
        if self.targets.run_tags is None:
            return ()
        with _blamed("run_tags"):
            tags = dict(self.targets.run_tags(item))
            if len(tags) > MAX_TAGS:
                raise ValueError(f"a run may have {MAX_TAGS} further tags, not {len(tags):,}.")
            for name, value in tags.items():
                _check_tag(name, value)
            return tuple(sorted(tags.items()))

    def _dynamic(self, job: str) -> str | None:
        """The name of the job's dynamic partitions; None if it has others or none."""
        found = self.known[job].partitions_def if job in self.known else None
        return found.name if isinstance(found, DynamicPartitionsDefinition) else None


@contextmanager
def _blamed(argument: str) -> Iterator[None]:
    """Turns every error in this context into a `BadTarget` that names the sensor's argument."""
    try:
        yield
    except OF_FUNCTIONS as error:
        raise BadTarget(f"the sensor's {argument} failed for this row: {told(error)}") from error


def told(error: BaseException) -> str:
    """The error's type and text, whatever the text is made by."""
    try:
        text = str(error)
    except Exception:
        text = "its text cannot be shown"
    return f"{type(error).__name__}: {text}"


def _check_key(key: str | None, job: str, partitions: PartitionsDefinition | None, instance: DagsterInstance) -> None:
    """Raises `ValueError` for a key with which no run of the job can be launched."""
    if partitions is None:
        if key is not None:
            raise ValueError(f"the job {job} has no partitions, so it takes None instead of {shown(key)}.")
        return
    if key is None:
        raise ValueError(f"each run of the job {job} needs a partition, and it returned None.")
    if isinstance(partitions, DynamicPartitionsDefinition) and partitions.name is not None:
        # The tick adds the partition. An invalid key would be refused later, with the whole tick.
        if not 1 <= len(key) <= MAX_PARTITION_KEY_CHARACTERS or not key.isprintable() or "..." in key:
            raise ValueError(
                f"a key of a dynamic partition has 1 to {MAX_PARTITION_KEY_CHARACTERS} printable characters and no "
                f'"...": not {shown(key)}.'
            )
        return
    with partition_loading_context(dynamic_partitions_store=instance):
        if not partitions.has_partition_key(key):
            raise ValueError(f"the job {job} has no partition {shown(key)}.")


def _check_tag(name: object, value: object) -> None:
    if not isinstance(name, str) or not isinstance(value, str):
        raise TypeError(f"the tag {shown(name)} and its value must be texts.")
    if not _TAG_NAME.fullmatch(name):
        raise ValueError(
            f"the tag {shown(name)} needs a name of letters, digits, '_', '-' and '.', at most 63, which may follow "
            "a namespace and '/'."
        )
    if name.startswith(RESERVED_PREFIXES) and name not in ALLOWED_TAGS:
        raise ValueError(f"the tag {name} is set by the sensor or by Dagster; choose another name.")
    if storable(value) != value:
        raise ValueError(f"the value of the tag {name} has NUL characters or lone surrogates: Dagster cannot store it.")
    if len(value) > MAX_TAG_CHARACTERS:
        raise ValueError(f"the tag {name} may have {MAX_TAG_CHARACTERS:,} characters, not {len(value):,}.")
