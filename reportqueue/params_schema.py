"""JSON Schema of a report's parameters: whether a schema is one, and whether parameters fit it.

Dialect: draft 2020-12. A schema refers to itself alone (`#/$defs/...`): nothing is ever fetched. `schema_check` says
which schemas are accepted, `schema_evaluation` applies them. What needs more work than a request may do is refused.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import islice
from typing import Any

from django.core.exceptions import ValidationError

from reportqueue import bounds, schema_check
from reportqueue.json_values import quoted
from reportqueue.schema_check import BadSchema
from reportqueue.schema_evaluation import Budget, CannotEvaluate, Evaluation, Schema, TooMuchWork

logger = logging.getLogger("reportqueue")
MAX_PROBLEMS = 10
"""Problems that one message names."""
MAX_TEXT = 300
"""Characters of a problem."""
MAX_STEPS = 100_000
"""Of the check of one set of parameters: about half a second."""
MAX_CALL_STEPS = 1_000_000
"""Of the checks of all parameters that one call gives."""
TOO_MUCH = f"are not checked: that needs more than {MAX_STEPS:,} steps. Give fewer values, or use a simpler schema"
CALL_TOO_MUCH = f"are not checked: this call needs more than {MAX_CALL_STEPS:,} steps. Split it"
TOO_DEEP = "are not checked: they and their schema are nested too deeply"


def call_budget() -> Budget:
    """The steps of a call that gives several sets of parameters."""
    return Budget(MAX_CALL_STEPS)


def validate(schema: Any) -> None:
    """Refuse what is no schema of an object, naming the place. The empty object fits all parameters."""
    if not isinstance(schema, Mapping):
        raise ValidationError("Must be a JSON object: a schema.", code="not-an-object")
    bounds.validate_json_object(schema)
    bounds.validate_depth(schema)
    checked = _checked(json.dumps(schema))
    if isinstance(checked, str):
        raise ValidationError(checked, code="schema")


def problems(
    schema: Mapping[str, Any] | None,
    params: Any,
    *,
    root: str = "params",
    partial: bool = False,
    budget: Budget | None = None,
) -> list[str]:
    """What of the parameters does not fit the schema: each with its path and what was expected; at most ten.

    `partial`: it is no problem that parameters are missing. `budget`: the steps that the whole call may use.
    """
    if not schema:
        return []
    checked = _checked(json.dumps(schema))
    if isinstance(checked, str):
        return [f"The schema of the report cannot be used: {checked}"]
    shared = budget or Budget(MAX_STEPS)
    own = Budget(min(MAX_STEPS, shared.left))
    shared.left -= own.left
    whole_call = own.left < MAX_STEPS
    try:
        found = islice(Evaluation(checked, own, partial=partial).problems(params), MAX_PROBLEMS)
        return [_problem((root, *one.steps), one.message) for one in found]
    except TooMuchWork:
        return [_problem((root,), CALL_TOO_MUCH if whole_call else TOO_MUCH)]
    except RecursionError:
        return [_problem((root,), TOO_DEEP)]
    except CannotEvaluate as error:
        logger.exception("A value cannot be checked with the keyword %r of its report's schema.", error.keyword)
        return [_problem((root, *error.steps), f"cannot be checked with the schema's {error.keyword!r}")]
    finally:
        shared.left += max(0, own.left)


@lru_cache(maxsize=128)
def _checked(text: str) -> Schema | str:
    """The schema, ready to be evaluated, or why it is refused."""
    schema = _sorted(json.loads(text))
    try:
        checked = schema_check.check(schema)
    except BadSchema as error:
        return _problem(error.place, str(error))
    except TooMuchWork:
        return "The schema is too large to be checked."
    kind = schema.get("type", "object")
    if kind != "object":
        return _problem(("type",), f"must be 'object', since parameters are one; it is {quoted(kind)}")
    return checked


def _sorted(part: Any) -> Any:
    """The JSON value with the names of objects in order: the database does not keep them as they were written."""
    if isinstance(part, dict):
        return {name: _sorted(part[name]) for name in sorted(part)}
    return [_sorted(one) for one in part] if isinstance(part, list) else part


def _problem(place: Iterable[str | int], message: str) -> str:
    text = ""
    for step in place:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    text = text.removeprefix(".")[:MAX_TEXT]
    cut = message if len(message) <= MAX_TEXT else f"{message[: MAX_TEXT - 1]}…"
    return f"{text}: {cut}." if text else f"{cut}."
