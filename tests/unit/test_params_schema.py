"""Schemas of parameters: which are accepted, that nothing is fetched, and that no schema takes long."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from reportqueue import params_schema
from reportqueue.json_values import canonical, quoted

SECONDS = 5
"""No check takes nearly as long, also on a busy machine."""


def refusal(schema: Any) -> str:
    """Why the schema is refused."""
    began = time.monotonic()
    with pytest.raises(ValidationError) as refused:
        params_schema.validate(schema)
    assert time.monotonic() - began < SECONDS
    (said,) = refused.value.messages
    return str(said)


def problems(schema: Any, params: Any) -> list[str]:
    """What of the parameters does not fit a schema, which is accepted."""
    params_schema.validate(schema)
    began = time.monotonic()
    found = params_schema.problems(schema, params)
    assert time.monotonic() - began < SECONDS
    return found


@contextmanager
def listener() -> Iterator[tuple[str, list[str]]]:
    """An address, and the requests that arrive there."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def fetching(address: str) -> list[Any]:
    """Schemas that a library might fetch something for."""
    inner = {"allOf": [{"$id": f"{address}/z", "$ref": "#"}]}
    return [
        {"properties": {"a": {"$ref": "#/x/y"}}, "x": {"y": inner}},
        {"$ref": "#/x/y", "x": {"y": inner}},
        {"properties": {"a": {"$ref": "#/properties/b/const"}, "b": {"const": inner}}},
        {"properties": {"a": {"$ref": "#/$defs/a/default"}}, "$defs": {"a": {"default": inner}}},
        {"properties": {"a": {"$ref": "#/x"}}, "x": {"$ref": f"{address}/a"}},
        {"properties": {"a": {"$id": f"{address}/b", "$ref": "c"}}},
        {"$id": address, "properties": {"a": {"$ref": "d"}}},
        {"properties": {"a": {"$dynamicRef": f"{address}/e"}}},
        {"properties": {"a": {"$recursiveRef": f"{address}/e"}}},
        {"properties": {"a": {"items": {"not": {"$ref": f"{address}/f"}}}}},
        {"properties": {"a": {"$schema": f"{address}/g"}}},
        {"$schema": f"{address}/h"},
        {"$vocabulary": {f"{address}/i": True}},
        {"properties": {"a": {"$ref": "https:#/x"}}},
        {"properties": {"a": {"$ref": "#x"}, "b": {"$anchor": "x"}}},
        {"properties": {"a": {"$dynamicAnchor": "x"}}},
        {"dependentSchemas": {"a": {"$ref": "//127.0.0.1/x"}}},
    ]


def test_nothing_is_ever_fetched():
    with listener() as (address, asked):
        for schema in fetching(address):
            assert refusal(schema)
            # Also a schema that an earlier version has stored.
            assert params_schema.problems(schema, {"a": {"a": [1]}}), schema
    assert asked == []


@pytest.mark.parametrize(
    "part",
    [
        {"enum": [{"$ref": "http://x/y"}, {"$id": "z"}]},
        {"const": {"$ref": 1}},
        {"default": {"$ref": "#/nowhere", "$schema": "x"}},
        {"examples": [{"$dynamicRef": "x"}]},
        {"properties": {"$ref": {"type": "string"}, "$id": {"type": "integer"}}},
        {"required": ["$ref"]},
    ],
)
def test_a_value_or_a_name_is_no_reference(part: dict[str, Any]):
    assert problems({"properties": {"a": part}}, {}) == []


def test_a_reference_leads_to_a_part_of_the_schema():
    tree = {
        "$defs": {"a/b~c %": {"type": "integer"}, "list": {"prefixItems": [{"type": "string"}]}},
        "properties": {
            "a": {"$ref": "#/$defs/a~1b~0c%20%25"},
            "b": {"$ref": "#/$defs/list/prefixItems/0"},
            "c": {"$ref": "#"},
        },
    }
    assert problems(tree, {"a": 1, "b": "x", "c": {"c": {"a": 2}}}) == []
    assert problems(tree, {"c": {"c": {"a": "x"}}}) == ["params.c.c.a: 'x' is not of type 'integer'."]


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"$ref": "#/allOf/zz", "allOf": [True]}, "$ref: '#/allOf/zz' leads nowhere."),
        ({"$ref": "#/allOf/1", "allOf": [True]}, "$ref: '#/allOf/1' leads nowhere."),
        ({"$ref": "#/allOf/" + "9" * 5_000, "allOf": [True]}, "leads nowhere"),
        ({"$ref": "#/minProperties/0", "minProperties": 0}, "$ref: '#/minProperties/0' leads nowhere."),
        ({"$ref": "#/minProperties", "minProperties": 0}, "leads to 0, which is no schema"),
        ({"$ref": "#/required", "required": ["a"]}, "leads to ['a'], which is no schema"),
        ({"$ref": "#/foo", "foo": {"type": "nonsense"}}, "foo.type: 'nonsense' is not"),
        ({"properties": {"a": {"$ref": "#/foo"}}, "foo": {"pattern": "("}}, "foo.pattern: '(' is not a regular"),
        (
            {"properties": {"a": {"$ref": "#/foo"}}, "foo": {"items": {"$ref": "#/bar"}}},
            "foo.items.$ref: '#/bar' leads",
        ),
        ({"$ref": "#"}, "refers to itself in a circle"),
        (
            {"$ref": "#/$defs/a", "$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}]}}},
            "$defs.a.allOf[0]: refers to itself",
        ),
        ({"properties": {"a": {"$ref": "#/properties/b"}, "b": {"not": {"$ref": "#/properties/a"}}}}, "in a circle"),
        ({"if": {"required": ["a"]}, "then": {"$ref": "#"}}, "then: refers to itself in a circle"),
        ({"dependentSchemas": {"a": {"$ref": "#"}}}, "dependentSchemas.a: refers to itself in a circle"),
        ({"properties": {"a": {"pattern": "a{99999999999}"}}}, "properties.a.pattern: 'a{99999999999}' is not"),
        ({"properties": {"a": {"pattern": "a{1,1001}"}}}, "invalid repetition size"),
        ({"properties": {"a": {"pattern": "(?=a)b"}}}, "invalid perl operator: (?=): write it without lookahead"),
        ({"properties": {"a": {"pattern": r"(a)\1"}}}, r"invalid escape sequence: \1"),
        ({"patternProperties": {"(": {}}}, "patternProperties.(: '(' is not a regular expression"),
        ({"properties": {"a": {"pattern": "\\p{L}{1,900}"}}}, "pattern too large"),
        (
            {"allOf": [{"properties": {"a": {"pattern": f"{n}"}}} for n in range(101)]},
            "more than 100 regular expressions",
        ),
        ({"properties": {"a": {"items": {"type": ["integer", "x"]}}}}, "properties.a.items.type[1]: 'x' is not one of"),
        ({"properties": {"a": {"minLength": -1}}}, "properties.a.minLength: -1 is less than the minimum of 0."),
        ({"properties": {"a": 5}}, "properties.a: 5 is not of type 'object', 'boolean'."),
        ({"properties": []}, "properties: [] is not of type 'object'."),
        ({"allOf": []}, "allOf: [] should be non-empty."),
        ({"required": ["a", "a"]}, "required: has non-unique elements: [0] and [1] are both 'a'."),
        ({"type": "array"}, "type: must be 'object'"),
        ({"type": ["object", "null"]}, "type: must be 'object'"),
        (
            {"$schema": "http://json-schema.org/draft-07/schema#"},
            "$schema: must be 'https://json-schema.org/draft/2020-12",
        ),
        ([], "Must be a JSON object"),
        (True, "Must be a JSON object"),
    ],
)
def test_what_is_no_schema_is_refused_with_its_place(schema: Any, said: str):
    assert said in refusal(schema)
    if isinstance(schema, dict):
        assert params_schema.problems(schema, {})[0].startswith("The schema of the report cannot be used: ")


def nested(levels: int, inner: Any, *around: str) -> Any:
    for level in range(levels):
        inner = {around[level % len(around)]: inner}
    return inner


def test_a_schema_may_be_nested_as_deeply_as_json_may():
    params_schema.validate(nested(98, {}, "not", "items"))
    assert "nested too deeply" in refusal(nested(101, {}, "items", "not"))
    assert "nested too deeply" in refusal(nested(5_000, {}, "items"))


def test_parameters_that_a_tree_describes_may_be_as_deep_as_json_may():
    tree = {"properties": {"c": {"$ref": "#"}}, "additionalProperties": False}
    assert problems(tree, nested(99, {}, "c")) == []
    (said,) = params_schema.problems(tree, nested(2_000, {}, "c"))
    assert said == "params: are not checked: they and their schema are nested too deeply."


def doubling(levels: int, keyword: str = "allOf") -> dict[str, Any]:
    """Each part applies the next one twice."""
    parts: dict[str, Any] = {
        f"d{n}": {keyword: [{"$ref": f"#/$defs/d{n + 1}"}, {"$ref": f"#/$defs/d{n + 1}"}]} for n in range(levels)
    }
    return {**parts, f"d{levels}": {}}


@pytest.mark.parametrize("keyword", ["allOf", "anyOf", "oneOf"])
def test_parts_that_double_are_refused(keyword: str):
    for root in ({"$ref": "#/$defs/d0"}, {"properties": {"a": {"$ref": "#/$defs/d0"}}}):
        assert "applies more than 10,000 parts" in refusal({**root, "$defs": doubling(29, keyword)})


def test_parts_that_double_from_level_to_level_of_the_parameters_are_refused_with_them():
    parts = {
        f"d{n}": {"items": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}, {"$ref": f"#/$defs/d{n + 1}"}]}} for n in range(40)
    }
    schema = {"properties": {"a": {"$ref": "#/$defs/d0"}}, "$defs": {**parts, "d40": {}}}
    deep: Any = 1
    for _ in range(41):
        deep = [deep]
    assert problems(schema, {"a": [[[1]]]}) == []
    (said,) = problems(schema, {"a": deep})
    assert said.startswith("params: are not checked: that needs more than 100,000 steps.")


def test_a_long_chain_of_references_is_refused():
    chain = {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(1_500)}
    assert "goes through more than 50 parts" in refusal({"$ref": "#/$defs/d0", "$defs": {**chain, "d1500": {}}})


SLOW: dict[str, tuple[Any, Any]] = {
    "contains": ({"allOf": [{"contains": {"const": n}} for n in range(1_000)]}, list(range(10_000))),
    "unevaluatedItems": (
        {"allOf": [{"contains": {"type": "integer"}}] * 300, "unevaluatedItems": False},
        [1] * 20_000,
    ),
    "unevaluatedProperties": (
        {"anyOf": [{"properties": {"x": {}}, "unevaluatedProperties": True}] * 300, "unevaluatedProperties": False},
        {f"a{n}": 1 for n in range(5_000)},
    ),
    "dependentSchemas": (
        {"items": {"dependentSchemas": {f"a{n}": {"required": ["b"]} for n in range(1_000)}}},
        [{"a1": 1, "b": 1}] * 4_000,
    ),
    "patternProperties": (
        {"patternProperties": {f"^a{n}$": {} for n in range(90)}},
        {f"x{n}": 1 for n in range(5_000)},
    ),
    "additionalProperties": (
        {"allOf": [{"properties": {"x": {}}, "additionalProperties": {}}] * 500},
        {f"a{n}": 1 for n in range(5_000)},
    ),
    "enum": ({"items": {"enum": [*range(10_000), "x"]}}, ["x"] * 10_000),
    "const": ({"allOf": [{"const": list(range(5_000))}]}, list(range(5_000))),
    "const often": ({"anyOf": [{"const": 1}] * 2_000}, list(range(10_000))),
    "propertyNames": ({"allOf": [{"propertyNames": {"minLength": 1}}] * 500}, {f"a{n}": 1 for n in range(5_000)}),
    "required": ({"items": {"required": [f"a{n}" for n in range(4_000)]}}, [{}] * 20_000),
    "texts in messages": ({"anyOf": [{"anyOf": [{"type": "integer"}, {"maxLength": 1}]}] * 1_000}, "x" * 60_000),
    "lists in messages": ({"anyOf": [False] * 4_000}, [1] * 30_000),
    "items": ({"allOf": [{"items": {}}] * 2_000}, [1] * 30_000),
    "multipleOf": ({"items": {"multipleOf": 1e-300}}, [1e300] * 9_000),
    "a long regular expression": ({"items": {"pattern": "(?:[ab]*c){900}z"}}, ["abcabcabcbcbabcba" * 30] * 100),
    "a regular expression with many states": ({"pattern": ".*c.{900}x"}, "abcabcabbbcabcabccca" * 3_000),
    "values that are regular expressions": (
        {"items": {"anyOf": [{"format": "regex"}, True]}},
        [f"{'a{0,999}' * parts}{n}" for n in range(9) for parts in (9, 19)],
    ),
    "groups": ({"pattern": "(" * 10_000 + "a" + ")" * 10_000}, "b" * 60_000),
    "backtracking": ({"pattern": r"^(\w+\s?)*$"}, "a" * 60 + "!"),
    "backtracking names": (
        {"patternProperties": {r"^(\w+\s?)*$": {}}, "additionalProperties": False},
        {"a" * 60 + "!": 1},
    ),
    "backtracking in unevaluated": (
        {"patternProperties": {r"^(\w+\s?)*$": {}}, "unevaluatedProperties": False},
        {"a" * 60 + "!": 1},
    ),
    "alternatives": ({"pattern": "^(a|a)*$"}, "a" * 60 + "!"),
    "uniqueItems": ({"uniqueItems": True}, [{"k": n} for n in range(5_000)]),
}


@pytest.mark.parametrize(("part", "value"), SLOW.values(), ids=SLOW)
def test_no_check_takes_long(part: Any, value: Any):
    problems({"properties": {"a": part}}, {"a": value})


def test_a_call_has_steps_for_all_its_parameters():
    schema = {"properties": {"a": {"items": {"type": "integer"}}}}
    budget = params_schema.call_budget()
    said = [params_schema.problems(schema, {"a": [1] * 20_000}, budget=budget) for _ in range(40)]
    assert said[0] == []
    assert said[-1] == ["params: are not checked: this call needs more than 1,000,000 steps. Split it."]


@pytest.mark.parametrize(
    ("items", "unique"),
    [
        ([1, 1.0], False),
        ([1, True], True),
        ([0, False], True),
        ([0, -0.0], False),
        ([[1], [True]], True),
        ([{"a": 1, "b": 2}, {"b": 2.0, "a": 1}], False),
        ([{"a": 1}, {"a": True}], True),
        (["1", 1], True),
        ([None, False, 0, "", [], {}], True),
        ([10**22, 1e22], False),
        ([2**53 + 1, 2.0**53], True),
        (["a", "a"], False),
        (["ä", "a\u0308"], True),
    ],
)
def test_items_are_the_same_if_they_are_the_same_json(items: list[Any], unique: bool):
    schema = {"properties": {"a": {"uniqueItems": True}}}
    assert (problems(schema, {"a": items}) == []) is unique
    assert len({canonical(item) for item in items}) == (len(items) if unique else len(items) - 1)


@pytest.mark.parametrize(
    ("part", "value", "fits"),
    [
        ({"multipleOf": 0.01}, 10**400, True),
        ({"multipleOf": 0.01}, 0.07, True),
        ({"multipleOf": 0.1}, 0.35, False),
        ({"multipleOf": 3}, 9.0, True),
        ({"multipleOf": 1e-308}, 1e308, True),
        ({"maximum": 1.5}, 10**400, False),
        ({"format": "regex"}, "a{99999999999}", False),
        ({"format": "regex"}, "(" * 10_000 + ")" * 10_000, True),
        ({"format": "regex"}, "(" * 10_000, False),
        ({"format": "ipv4"}, "1.2.3.4", True),
        ({"format": "ipv4"}, "1.2.3", False),
        ({"format": "ipv6"}, "::1", True),
        ({"format": "ipv6"}, "::1%eth0", False),
        ({"format": "uuid"}, "2eb8aa08-aa98-11ea-b4aa-73b441d16380", True),
        ({"format": "uuid"}, "2eb8aa08aa9811eab4aa73b441d16380", False),
        ({"format": "date"}, "2026-02-29", False),
        ({"format": "email"}, "a@b", True),
        ({"format": "email"}, "ab", False),
        ({"format": "something"}, "ab", True),
        ({"pattern": "^\\u00e9$"}, "é", True),
        ({"pattern": "^[0-9]+$"}, "1\n", False),
        ({"pattern": "^\\d$"}, "٣", False),
        ({"pattern": "a"}, "\ud800a", False),
    ],
)
def test_single_keywords(part: dict[str, Any], value: Any, fits: bool):
    assert (problems({"properties": {"a": part}}, {"a": value}) == []) is fits


@pytest.mark.parametrize(
    ("part", "value", "said"),
    [
        ({"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 1}]}, 0, "0 is less than the minimum of 1."),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, 0, "0 is not valid under any of the given schemas."),
        ({"oneOf": [{"type": "integer"}, {"minimum": 0}]}, 0, "0 is valid under 2 of the given schemas, not under one"),
        ({"not": {"type": "integer"}}, 0, "0 should not be valid under {'type': 'integer'}."),
        ({"maxItems": 0}, [1], "[1] is expected to be empty."),
        (
            {"unevaluatedItems": False, "prefixItems": [{}]},
            [1, 2],
            "Unevaluated items are not allowed (2 was unexpected).",
        ),
        ({"properties": {"b": False}}, {"b": 1}, "1 is not allowed here."),
    ],
)
def test_what_is_said(part: dict[str, Any], value: Any, said: str):
    (text,) = problems({"properties": {"a": part}}, {"a": value})
    assert text.removeprefix("params.a").removeprefix(".b").removeprefix(": ").startswith(said)


@pytest.mark.parametrize("params", [{"a": {1: 2}}, {"a": {1: 2, "b": 3}}, {"a": object()}, {"a": {None: 1}}])
def test_what_is_no_json_is_refused_and_no_error(params: Any):
    schema = {"properties": {"a": {"enum": [1], "patternProperties": {"a": {}}}}}
    assert all(said.startswith("params.a: ") for said in problems(schema, params))


def test_a_mistake_in_a_schema_of_missing_parameters_only_is_none_for_defaults():
    schema = {
        "required": ["a", "b"],
        "minProperties": 2,
        "dependentRequired": {"a": ["b"]},
        "properties": {"a": {"type": "integer"}, "b": {"type": "object", "required": ["c"]}},
        "anyOf": [{"required": ["b"]}, {"required": ["x"]}],
        "oneOf": [{"required": ["b"]}, {"required": ["x"]}],
        "not": {"properties": {"z": {"type": "integer"}}},
        "additionalProperties": False,
    }

    def said(defaults: Any) -> list[str]:
        return params_schema.problems(schema, defaults, root="default_params", partial=True)

    params_schema.validate(schema)
    assert said({}) == said({"a": 1}) == said({"b": {"c": 1}}) == []
    assert said({"a": "x"}) == ["default_params.a: 'x' is not of type 'integer'."]
    assert said({"b": {}}) == ["default_params.b: 'c' is a required property."]
    assert "('y' was unexpected)" in said({"y": 1})[0]


# The same verdicts as a library that knows no bounds.

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 1.0, 2.5, "", "a", "ab", "b", "2026-01-01"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from("abc")
counts = st.integers(0, 3)
patterns = st.sampled_from(["a", "^a$", "^[ab]+$", "b|c", ""])
kinds = st.sampled_from(["array", "boolean", "integer", "null", "number", "object", "string"])


def keywords(inner: Any) -> Any:
    """Schemas of any keywords, around other schemas."""
    schemas, by_name = st.lists(inner, min_size=1, max_size=3), st.dictionaries(names, inner, max_size=3)
    return st.fixed_dictionaries(
        {},
        optional={
            "type": kinds | st.lists(kinds, min_size=1, max_size=3, unique=True),
            "enum": st.lists(json_values, max_size=4),
            "const": json_values,
            "minimum": st.integers(-2, 2) | st.just(0.5),
            "exclusiveMaximum": st.integers(-2, 2),
            "multipleOf": st.sampled_from([1, 2, 0.5]),
            "minLength": counts,
            "maxLength": counts,
            "pattern": patterns,
            "format": st.just("date"),
            "minItems": counts,
            "maxItems": counts,
            "uniqueItems": st.booleans(),
            "items": inner,
            "prefixItems": schemas,
            "contains": inner,
            "minContains": counts,
            "maxContains": counts,
            "unevaluatedItems": inner,
            "properties": by_name,
            "patternProperties": st.dictionaries(patterns, inner, max_size=2),
            "additionalProperties": inner,
            "unevaluatedProperties": inner,
            "propertyNames": inner,
            "required": st.lists(names, max_size=2, unique=True),
            "dependentRequired": st.dictionaries(names, st.lists(names, max_size=2, unique=True), max_size=2),
            "dependentSchemas": by_name,
            "minProperties": counts,
            "maxProperties": counts,
            "allOf": schemas,
            "anyOf": schemas,
            "oneOf": schemas,
            "not": inner,
            "if": inner,
            "then": inner,
            "else": inner,
            "$ref": st.sampled_from(["#/$defs/a", "#/$defs/b"]),
        },
    ).map(lambda schema: dict(list(schema.items())[:6]))


schemas = st.recursive(st.booleans() | st.just({}) | keywords(st.booleans()), keywords, max_leaves=6)


@settings(max_examples=100, deadline=None)
@given(schemas, schemas, json_values)
def test_verdicts_are_those_of_the_library(schema: Any, other: Any, value: Any):
    whole = {"properties": {"v": schema}, "$defs": {"a": other, "b": {"type": ["integer", "object"]}}}
    try:
        params_schema.validate(whole)
    except ValidationError:
        assume(False)  # it refers to itself in a circle
    params = {"v": value}
    format_checker = Draft202012Validator.FORMAT_CHECKER
    library = Draft202012Validator(whole, format_checker=format_checker).is_valid(params)
    assert (params_schema.problems(whole, params) == []) is library


WRONG_VALUES = st.one_of(json_values, st.dictionaries(names, json_values, max_size=2))


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(sorted(Draft202012Validator.VALIDATORS.keys() - {"$ref", "$dynamicRef"})), WRONG_VALUES
    )
)
def test_what_is_a_schema_is_what_the_library_takes(schema: dict[str, Any]):
    schema.pop("type", None)
    try:
        Draft202012Validator.check_schema(schema)
        library = True
    except SchemaError:
        library = False
    try:
        params_schema.validate(schema)
        ours = True
    except ValidationError:
        ours = False
    assert ours is library


@given(st.recursive(json_values, lambda inner: st.lists(inner, max_size=30), max_leaves=60))
def test_a_quoted_value_is_what_python_writes_cut(value: Any):
    written = repr(value)
    assert quoted(value) == (written if len(written) <= 200 else f"{written[:200]}…")
