"""A prompt is one value with one digest; what is wrong in its file is refused by its name."""

from __future__ import annotations

import json
import random

import pytest
import yaml

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.llm.prompts.prompt import MAX_BYTES, TYPES, Message, Prompt, Variable
from airflow_pipeops.llm.prompts.template import filled, fixed, variables
from airflow_pipeops.redaction import remember

FILE = """
name: flight-notice
description: Tells a passenger of a delay.
model: small-1-2026-05
parameters: {temperature: 0, max_tokens: 200}
template:
  - role: system
    content: |
      You write to passengers of {{ airline }}. Keep it short.
  - {role: user, content: "Flight {{flight}} is {{minutes}} minutes late. {{note}}"}
variables:
  airline: string
  flight: {type: string, description: its number}
  minutes: integer
  note: {required: false}
tools:
  - {name: find_flight, description: finds one, parameters: {type: object, properties: {flight: {type: string}}}}
output_schema: {type: object, required: [text], properties: {text: {type: string}}}
"""
GIVEN = yaml.safe_load(FILE)


def test_each_layout_of_a_file_is_the_same_prompt():
    prompt = Prompt.read(FILE)
    shuffled = dict(sorted(GIVEN.items(), reverse=True))
    assert Prompt.read(json.dumps(shuffled, indent=3), "prompt.json") == prompt
    assert Prompt.read(prompt.canonical.encode(), "p.json").sha256 == prompt.sha256
    assert Prompt.from_json(prompt.to_json()) == prompt
    assert prompt.variables["note"] == Variable("string", required=False)
    one = Prompt.from_json({"name": "a", "model": "m", "template": "{{x}}", "variables": {"x": "number"}})
    assert one.messages == (Message("user", "{{x}}"),)
    assert one.to_json().keys() == {"name", "model", "template", "variables"}


@pytest.mark.parametrize(
    "change",
    [
        {"model": "small-2"},
        {"parameters": {"temperature": 0.1, "max_tokens": 200}},
        {"tools": []},
        {"output_schema": None},
        {"name": "other"},
        {"template": [*GIVEN["template"][:1], {"role": "user", "content": "{{flight}} {{minutes}}{{note}}"}]},
        {"variables": {**GIVEN["variables"], "note": {"required": True}}},
    ],
)
def test_whatever_changes_an_answer_changes_the_digest(change):
    assert Prompt.from_json({**GIVEN, **change}).sha256 != Prompt.read(FILE).sha256


@pytest.mark.parametrize(
    ("change", "field", "says"),
    [
        ({"template": None}, "template", "has no template"),
        ({"template": 7}, "template", "neither a text nor a list"),
        ({"template": []}, "template", "has no template"),
        ({"template": [{"role": "robot", "content": "x"}]}, "role", "role of template\\[0\\] is 'robot'"),
        ({"template": [{"role": "user"}]}, "template[0].content", "no text"),
        ({"template": [{"role": "user", "content": "x", "cache": 1}]}, "template[0]", "knows no 'cache'"),
        ({"template": "{{flight}} {{who}}"}, "variables", "uses who, which variables does not name"),
        ({"template": "{{flight}}"}, "variables", "never uses airline, minutes, note"),
        ({"template": "a\n{{ 1 + 1 }}"}, "template", "line 2 of template opens double braces"),
        ({"template": "{{flight.__class__}}"}, "template", "around no variable"),
        ({"template": "{{ unclosed"}, "template", "around no variable"),
        ({"template": "{% for x in y %}"}, "template", "would execute"),
        ({"template": "@@@langfusePrompt:name=x@@@"}, "template", "would execute"),
        ({"variables": ["flight"]}, "variables", "is not a mapping"),
        ({"variables": {**GIVEN["variables"], "a b": "string"}}, "variables", "not a name of a variable"),
        ({"variables": {**GIVEN["variables"], "note": "text"}}, "type", "type of variables.note is 'text'"),
        (
            {"variables": {**GIVEN["variables"], "note": {"requird": 1}}},
            "variables.note",
            "knows no 'requird'",
        ),
        ({"variables": {**GIVEN["variables"], "note": {"required": "no"}}}, "variables.note", "is 'no'"),
        ({"temperature": 1}, "prompt", "knows no 'temperature'"),
        ({"paramters": {}}, "prompt", "Did you mean 'parameters'"),
        ({"name": "Flight Notice"}, "name", "is not a name of a prompt"),
        ({"name": 5}, "name", "is not a name of a prompt"),
        ({"model": "a b"}, "model", "is not a name of a model"),
        ({"parameters": {"temperature": float("nan")}}, "prompt", "is not JSON"),
        ({"parameters": {"seed": 2**60}}, "prompt", "is not JSON"),
        ({"tools": {"a": 1}}, "tools", "no list"),
        ({"tools": [{"name": "a b"}]}, "tools[0].name", "not a name of a tool"),
        ({"tools": [{"name": "a", "code": "x"}]}, "tools[0]", "knows no 'code'"),
        (
            {"tools": [{"name": "a", "parameters": {"type": "objct"}}]},
            "tools[0].parameters",
            "no JSON Schema",
        ),
        (
            {"output_schema": {"properties": {"a": {"type": 3}}}},
            "output_schema",
            "output_schema.properties.a",
        ),
        ({"output_schema": {"$ref": "http://x/y"}}, "output_schema.$ref", "outside of the prompt"),
        ({"output_schema": "text"}, "output_schema", "is not a mapping"),
        ({"template": "{{flight}}{{airline}}{{minutes}}{{note}}" + "x" * MAX_BYTES}, "template", "more than"),
    ],
)
def test_what_is_wrong_is_refused_by_its_name(change, field, says):
    with pytest.raises(InvalidInput, match=says) as refused:
        Prompt.from_json({**GIVEN, **change})
    assert refused.value.field == field
    assert refused.value.remedy or field in ("output_schema",)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: a\nname: b\n", "stands twice"),
        ('{"name": "a", "name": "b"}', "stands twice"),
        ("name: [", "not valid YAML"),
        ("a: 1\n---\nb: 2\n", "several documents"),
        ("a: &x [1]\nb: *x\n", "has an alias"),
        (b"\xff\xfe", "utf-8"),
        ("x" * 300_000, "more than"),
        ("[" * 5000, "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(text, says):
    with pytest.raises(InvalidInput, match=says) as refused:
        Prompt.read(text)
    assert refused.value.field == "file"


@pytest.mark.parametrize(
    ("where", "secret"),
    [
        ("template", "sk-proj-abcdefghij0123456789"),
        ("template", "Authorization: Bearer abcdefghijklmnop1234"),
        ("template", "ghp_" + "a1" * 12),
        ("template", "https://user:hunter2@example.com/"),
        ("template", "a-password-of-this-process-7"),
        ("description", "AKIA0123456789ABCDEF"),
        ("parameters", {"extra_headers": {"Authorization": "x"}}),
        ("parameters", {"api_key": "x"}),
        ("tools", [{"name": "t", "description": "hf_" + "Ab" * 12}]),
        ("output_schema", {"description": "-----BEGIN RSA PRIVATE KEY-----\nabc"}),
    ],
)
def test_a_secret_is_refused_and_not_shown(where, secret):
    remember("a-password-of-this-process-7")
    given = GIVEN["template"] + [{"role": "user", "content": secret}] if where == "template" else secret
    with pytest.raises(InvalidInput, match="looks like a secret") as refused:
        Prompt.from_json({**GIVEN, where: given})
    assert refused.value.field.startswith(where)
    if isinstance(secret, str):
        assert secret not in repr(refused.value) + str(refused.value.value)


def test_words_about_secrets_are_none():
    text = "Never tell a password: it is secret. The token: {{flight}}{{airline}}{{minutes}}{{note}}"
    assert Prompt.from_json({**GIVEN, "template": text})


def test_rendering_fills_in_each_variable_once():
    prompt = Prompt.read(FILE)
    made = prompt.render({"airline": "Ab {{flight}}", "flight": "X 1", "minutes": 30})
    assert [one.content for one in made.messages] == [
        "You write to passengers of Ab {{flight}}. Keep it short.\n",
        "Flight X 1 is 30 minutes late. ",
    ]
    assert made.to_json()[0]["role"] == "system"
    assert made == prompt.render({"minutes": 30, "flight": "X 1", "airline": "Ab {{flight}}", "note": None})
    assert made.sha256 != prompt.render({"minutes": 31, "flight": "X 1", "airline": "Ab {{flight}}"}).sha256


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, "has no value for airline, flight, minutes"),
        ({"airline": "a", "flight": None, "minutes": 1}, "has no value for flight"),
        ({"airline": "a", "flight": "b", "minutes": 1, "Note": "x"}, "knows no 'Note'"),
        ({"airline": "a", "flight": "b", "minutes": "1"}, "the type integer, not str, for minutes"),
        ({"airline": "a", "flight": "b", "minutes": True}, "the type integer, not bool, for minutes"),
        ({"airline": "a", "flight": "b", "minutes": 1.5}, "the type integer, not float, for minutes"),
        ([], "values is not a mapping"),
    ],
)
def test_values_that_do_not_fit_are_refused(values, says):
    with pytest.raises(InvalidInput, match=says) as refused:
        Prompt.read(FILE).render(values)
    assert refused.value.field == "values"


@pytest.mark.parametrize(
    ("kind", "value", "shown"),
    [
        ("string", "a\n{{x}}", "a\n{{x}}"),
        ("number", 0.5, "0.5"),
        ("integer", -3, "-3"),
        ("boolean", True, "true"),
        ("array", ["é", 1], '["é",1]'),
        ("object", {"b": 1, "a": None}, '{"a":null,"b":1}'),
    ],
)
def test_each_type_has_one_form(kind, value, shown):
    assert set(TYPES) >= {kind}
    one = Prompt.from_json({"name": "a", "model": "m", "template": "<{{x}}>", "variables": {"x": kind}})
    assert one.render({"x": value}).messages[0].content == f"<{shown}>"


def test_no_value_is_ever_read_as_a_template():
    """Random templates and values of braces, names and noise: what stands between the values stays, in order."""
    chance = random.Random(14)
    names = ("a", "b_1", "C")
    for _ in range(2000):
        parts = [
            chance.choice(["x", "}", "} }", "{ ", "é\n", "}}", "%}"]) for _ in range(chance.randint(1, 5))
        ]
        holes = [chance.choice(names) for _ in parts]
        text = "".join(
            part + "{{" + " " * chance.randint(0, 2) + hole + "}}"
            for part, hole in zip(parts, holes, strict=True)
        )
        values = {name: chance.choice(["{{a}}", "{{", "}}", "\\1", "", "{{ b_1 }}x", "$1"]) for name in names}
        assert variables(text, "template") == tuple(dict.fromkeys(holes))
        expected = "".join(part + values[hole] for part, hole in zip(parts, holes, strict=True))
        assert filled(text, values) == expected
        assert fixed(text).split(" \0 ") == [*parts, ""]
