"""Edits of YAML files: exact bytes, exact meaning, and refusals that say what to do."""

# ruff: noqa: E501
from __future__ import annotations

import json
import re

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_pipeops.exceptions import InvalidInput
from airflow_pipeops.git.values.edits import get_values, set_values
from airflow_pipeops.git.values.paths import Index, Key, Select, parse, repository_file
from airflow_pipeops.git.values.scalars import plain_is_safe

KUSTOMIZATION = """\
# desired state of staging
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
images:
  - name: delay-api   # the service
    newName: delay-api
    digest: "sha256:aaa"   # keep me

  - {name: other, digest: 'sha256:ccc'}
replicas:
- count: 2
  name: 'delay-api'
empty:
labels: {}
"""

DEPLOYMENT = """\
spec:
  template:
    spec:
      containers:
        - name: server
          env:
            - name: MODEL_URI
              value: file:///models/1
            - name: MODEL_VERSION
              value: "1"
"""

#: (text, path, value, the lines that go, the lines that come)
EDITS = [
    (KUSTOMIZATION, "images[name=delay-api].digest", "sha256:bbb", ['    digest: "sha256:aaa"   # keep me'], ['    digest: "sha256:bbb"   # keep me']),
    (KUSTOMIZATION, "images[name=other].digest", "it's", ["  - {name: other, digest: 'sha256:ccc'}"], ["  - {name: other, digest: 'it''s'}"]),
    (KUSTOMIZATION, "replicas[name=delay-api].count", 3, ["- count: 2"], ["- count: 3"]),
    (KUSTOMIZATION, "replicas[0].count", "3", ["- count: 2"], ['- count: "3"']),
    (KUSTOMIZATION, "images[name=delay-api].newName", "1e3", ["    newName: delay-api"], ['    newName: "1e3"']),
    (KUSTOMIZATION, "images[name=delay-api].newName", "no", ["    newName: delay-api"], ['    newName: "no"']),
    (KUSTOMIZATION, "images[name=delay-api].newName", "reg.io:5000/a/b", ["    newName: delay-api"], ["    newName: reg.io:5000/a/b"]),
    (KUSTOMIZATION, "empty", True, ["empty:"], ["empty: true"]),
    ("images:\n  - name: web\n    newName: reg/web\n", "images[name=web].newTag", "1.2.3", [], ["    newTag: 1.2.3"]),
    ("image: {tag: v1, digest: ''}\n", "image.tag", "v2", ["image: {tag: v1, digest: ''}"], ["image: {tag: v2, digest: ''}"]),
    ("image:\n  tag: v1\n  digest:\n", "image.tag", "v2", ["  tag: v1"], ["  tag: v2"]),
    (KUSTOMIZATION, "replicas[0].more", 1.5, [], ["  more: 1.5"]),
    (KUSTOMIZATION, "labels.team", "a", ["labels: {}"], ['labels: {team: "a"}']),
    (KUSTOMIZATION, "images[name=other].more", "x", ["  - {name: other, digest: 'sha256:ccc'}"], ["  - {name: other, digest: 'sha256:ccc', more: \"x\"}"]),
    (KUSTOMIZATION, "namePrefix", "yes-", [], ["namePrefix: yes-"]),
    (DEPLOYMENT, "spec.template.spec.containers[name=server].env[name=MODEL_URI].value", "file:///models/2", ["              value: file:///models/1"], ["              value: file:///models/2"]),
    (DEPLOYMENT, "spec.template.spec.containers[name=server].env[name=MODEL_VERSION].value", "2", ['              value: "1"'], ['              value: "2"']),
    ("x: 0\na: 1 # one", "b", 2, [], ["b: 2"]),
    ("a: |\n  text\n\nz: 1\n", "z", 2, ["z: 1"], ["z: 2"]),
    ("a:\n  b: |\n    text\n", "a.c", 2, [], ["  c: 2"]),
    ("x: 1\na:\n  b: [1, 2] # list\n# end\n", "a.c", "v", [], ["  c: v"]),
    ('"a.b/c": old\n', '["a.b/c"]', "new", ['"a.b/c": old'], ['"a.b/c": new']),
    ("a: multi\n  line\nb: 1\n", "a", "one", ["a: multi", "  line"], ["a: one"]),
    ("\ufeffa: 1\n", "a", 2, ["\ufeffa: 1"], ["\ufeffa: 2"]),
    ("a: 'x'\n", "a", "line\nbreak", ["a: 'x'"], ['a: "line\\nbreak"']),
    ("- x\n- y\n", "[1]", "z", ["- y"], ["- z"]),
    ("a: 😀\n", "a", "é😀", ["a: 😀"], ['a: "é😀"']),
    ("a: x\n", "a", 1e16, ["a: x"], ["a: 1.0e+16"]),
    ("- name: a\n  v: 1\n- name: b\n", "[name=b].v", 2, [], ["  v: 2"]),
    ("a: !!str 5\nb: 1\n", "b", 2, ["b: 1"], ["b: 2"]),
    ("a: !Ref x\nb: 1\n", "b", 2, ["b: 1"], ["b: 2"]),
    ("a: &x 1\nb: *x\nc: 3\n", "c", 4, ["c: 3"], ["c: 4"]),
    # Anchors: what stands at one place only can be changed there.
    ("a: &x 1\nb: *x\n", "b", 2, ["b: *x"], ["b: 2"]),
    ("a: &x v1\nb: {t: *x , c: 1}\n", "b.t", "v2", ["b: {t: *x , c: 1}"], ["b: {t: v2 , c: 1}"]),
    ("a: &x {c: 1}\nb: 2\n", "a.c", 3, ["a: &x {c: 1}"], ["a: &x {c: 3}"]),
    ("a: &x\n  c: 1\nb:\n  <<: *x\n  c: 2\n", "b.c", 3, ["  c: 2"], ["  c: 3"]),
    ("a: &x\n  c: 1\nb:\n  <<: *x\n", "b.c", 3, [], ["  c: 3"]),
    ("a: &x\n  c: 1\nb:\n  <<: [*x]\n  d: 1\n", "b.e", 3, [], ["  e: 3"]),
    # Tabs that separate, and indent nothing.
    ("a:\tv1\t# one\nb:\t2\n", "a", "v2", ["a:\tv1\t# one"], ["a:\tv2\t# one"]),
    ("a: 1\n\t\nb: {c:\t1,\td: 2}\t\n", "b.d", 3, ["b: {c:\t1,\td: 2}\t"], ["b: {c:\t1,\td: 3}\t"]),
    ("a: one\ttwo\t\nb: 1\n", "b", 2, ["b: 1"], ["b: 2"]),
    # JSON stays JSON.
    ('{\n\t"image": {"tag": "v1"},\n\t"n": 1\n}\n', "image.tag", "v2", ['\t"image": {"tag": "v1"},'], ['\t"image": {"tag": "v2"},']),
    ('{"image": {}}\n', "image.tag", "v2", ['{"image": {}}'], ['{"image": {"tag": "v2"}}']),
    ('{"a": null, "b": 1}\n', "a", "v2", ['{"a": null, "b": 1}'], ['{"a": "v2", "b": 1}']),
    ('{"a": "x"}\n', "a", "\xa0\u0085", ['{"a": "x"}'], ['{"a": "\\u00a0\\u0085"}']),
    ('{"a": 1}\n', "a", True, ['{"a": 1}'], ['{"a": true}']),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "path", "value", "gone", "come"), EDITS, ids=[f"{e[1]}={e[2]!r}"[:60] for e in EDITS]
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_only_the_line_changes(text, path, value, gone, come, newline):
    before = text.replace("\n", newline)
    edit = set_values(before, {path: value})
    assert edit.changed
    old, new = before.split(newline), edit.text.split(newline)
    assert [line for line in old if line not in new] == gone
    assert [line for line in new if line not in old] == come
    assert edit.text.endswith(newline) == before.endswith(newline)
    assert "\n" not in edit.text.replace("\r\n", "") or newline == "\n"
    found = get_values(edit.text, [path])[path]
    assert (type(found), found) == (type(value), value)
    back = set_values(edit.text, {path: value})
    assert (back.text, back.changed, back.previous) == (edit.text, False, {path: value})


def test_several_values_and_the_previous_ones():
    edit = set_values(
        KUSTOMIZATION,
        {"images[name=delay-api].digest": "sha256:b", "replicas[0].count": 5, "new": False, "empty": "x"},
    )
    assert edit.previous == {
        "images[name=delay-api].digest": "sha256:aaa",
        "replicas[0].count": 2,
        "new": None,
        "empty": None,
    }
    loaded = yaml.safe_load(edit.text)
    assert loaded["images"][0]["digest"] == "sha256:b"
    assert (loaded["replicas"][0]["count"], loaded["new"], loaded["empty"]) == (5, False, "x")


TWO = """\
kind: Service
metadata: {name: web}
spec: {port: 1}
---
kind: Deployment
metadata:
  name: web
spec:
  replicas: 1
  port: 2
---
# nothing
"""


def test_documents_are_told_apart():
    edit = set_values(TWO, {"Deployment/web:spec.port": 3, "spec.replicas": 2, "Service/web:spec.extra": 4})
    assert edit.text == TWO.replace("port: 2", "port: 3").replace("replicas: 1", "replicas: 2").replace(
        "{port: 1}", "{port: 1, extra: 4}"
    )
    for path, said in {
        "spec.port": "is in 2 documents",
        "spec.none": "is in no document",
        "Job/web:spec": "Service/web, Deployment/web",
    }.items():
        with pytest.raises(InvalidInput, match=said):
            set_values(TWO, {path: 1})


REFUSED = [
    ("a: &x 1\nb: *x\n", "a", "anchor &x"),
    ("a: &x {c: 1}\nb: *x\n", "b.c", r"alias \*x"),
    ("a: &x {c: 1}\nb: *x\n", "a.c", "anchor &x"),
    ("a: &x 1\nb: *x\n", "a", "line 2 would change with it"),
    ("a: &x {c: 1}\nb: *x\n", "b.c", "what line 1 defines"),
    ("d: &d {c: {e: 1}}\nb:\n  <<: *d\n", "b.c.e", "merge key"),
    ("a: *x\n", "a", "undefined alias"),
    ("a: 1\nb:\n\tc: 2\n", "b.c", "not valid YAML"),
    (KUSTOMIZATION, "images[name=delay-api].newTag", "has no effect: the digest 'sha256:aaa'"),
    ("image: {tag: v1, digest: 'sha256:a'}\n", "image.tag", "has no effect"),
    ("a: 1\na: 2\n", "a", "stands twice"),
    ("a: 1\nb: {c: 1, c: 2}\n", "a", "stands twice"),
    ("a: |\n  x\n", "a", "block of lines"),
    ("a: !!str 5\n", "a", "tagged"),
    ("a: {b: 1}\n", "a", "has a mapping there"),
    ("a: [1]\n", "a.b", "needs a mapping"),
    ("a: 1\n", "a.b.c", "needs a mapping"),
    ("a: {c: 1}\n", "a.b.c", "there is: c"),
    ("a: [{name: x}, {name: y}]\n", "a[name=z].v", "there is: x, y"),
    ("a: [{name: x}, {name: x}]\n", "a[name=x].v", "2 items"),
    ("a: [1]\n", "a[4]", "1 items"),
    ("a: {b\n", "a", "not valid YAML"),
    ("a: \x01\n", "a", "not valid YAML"),
    ("", "a", "no content"),
    ("# only a comment\n", "a", "no content"),
    ("a: {b}\n", "a.b", "without touching"),
    ("a:\n  b: |\n    text", "a.c", "without touching"),  # a line break would join the text
    ("[" * 1000 + "]" * 1000, "[0]", "nested too deeply"),
]


@pytest.mark.parametrize(("text", "path", "said"), REFUSED)
def test_refusals_name_the_cause_and_the_remedy(text, path, said):
    with pytest.raises(InvalidInput, match=said) as caught:
        set_values(text, {path: 9})
    assert caught.value.field


@pytest.mark.parametrize("value", [None, [1], {}, float("nan"), float("inf"), "\ud800", b"x"])
def test_values_that_cannot_be_written(value):
    with pytest.raises(InvalidInput, match="the value for 'a'"):
        set_values("a: 1\n", {"a": value})


def test_all_or_nothing():
    with pytest.raises(InvalidInput):
        set_values("a: 1\n", {"a": 2, "b.c": 3})


def test_a_tag_goes_with_its_digest():
    paths = {"images[name=delay-api].newTag": "v2", "images[name=delay-api].digest": "sha256:b"}
    loaded = yaml.safe_load(set_values(KUSTOMIZATION, paths).text)
    assert loaded["images"][0] | {} == {
        "name": "delay-api",
        "newName": "delay-api",
        "digest": "sha256:b",
        "newTag": "v2",
    }


def test_values_that_come_from_elsewhere_are_read():
    text = "a: &x {c: v1}\nb: {<<: *x}\nd: &y v1\ne: *y\n"
    assert get_values(text, ["b.c", "e", "b.none"]) == {"b.c": "v1", "e": "v1", "b.none": None}
    assert not set_values(text, {"b.c": "v1", "e": "v1"}).changed
    assert set_values(text, {"b.c": "v2"}).previous == {"b.c": "v1"}


def test_merge_keys_that_lead_in_a_circle_end():
    text = "a: &a\n  x: &x\n    <<: *a\n  <<: *x\nb:\n  <<: *a\n"
    assert get_values(text, ["b.none"]) == {"b.none": None}


def test_aliases_do_not_explode():
    bomb = (
        "a0: &a0 [x]\n"
        + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
        + "z: 1\n"
    )
    assert set_values(bomb, {"z": 2}).text == bomb.replace("z: 1", "z: 2")


def test_paths():
    assert parse('a["x.y/z"][name=b].c[0]').segments == (
        Key("a"),
        Key("x.y/z"),
        Select("name", "b"),
        Key("c"),
        Index(0),
    )
    assert parse("Deployment/web:a[k='v]w']").segments == (Key("a"), Select("k", "v]w"))
    assert parse("a[image=reg:5000/x].b").segments[1] == Select("image", "reg:5000/x")
    for bad in ("", " ", ".a", "a.", "a..b", "a[", "a[]", "a b", "a.[0]", "a=b", "a[0]b", None, 3):
        with pytest.raises(InvalidInput, match="path"):
            parse(bad)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "../x",
        "a/../../x",
        "a//b",
        "./a",
        ".git/config",
        "a/.GIT/x",
        "-x",
        "a\\b",
        "a\nb",
        None,
    ],
)
def test_files_outside_of_the_repository_are_refused(path):
    with pytest.raises(InvalidInput, match="not a path inside"):
        repository_file(path)


def test_files_inside_are_taken():
    assert repository_file("apps/ü b/.github/x.yaml") == "apps/ü b/.github/x.yaml"


# Properties

words = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
scalars = st.one_of(words, st.integers(-(10**12), 10**12), st.booleans(), st.floats(allow_nan=False, allow_infinity=False),
                    st.sampled_from(["yes", "0o7", "1e3", "12:30:00", "2020-01-01", "~", "0x1f", ".5", "1_000", "=", "<<", "- x", "a: b", "a #b", "1.", "+1"]))  # fmt: skip
keys = st.from_regex(re.compile(r"[a-z][a-z0-9-]{0,6}"), fullmatch=True).filter(plain_is_safe)
trees = st.dictionaries(keys, st.recursive(
    st.one_of(scalars, st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)),
    max_leaves=8), min_size=1, max_size=4)  # fmt: skip


def leaves(tree, prefix=""):
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from leaves(value, f"{prefix}.{key}" if prefix else key)
    elif isinstance(tree, list):
        for place, value in enumerate(tree):
            yield from leaves(value, f"{prefix}[{place}]")
    else:
        yield prefix


def put(tree, path, value):
    *way, last = parse(path).segments
    for segment in way:
        tree = tree[segment.name if isinstance(segment, Key) else segment.position]
    tree[last.name if isinstance(last, Key) else last.position] = value


@settings(max_examples=60, deadline=None)
@given(st.data(), trees, scalars, st.sampled_from([None, False, True]), st.sampled_from([None, "'", '"']))
def test_what_is_set_is_read_and_all_else_stays(data, tree, value, flow, style):
    text = yaml.safe_dump(
        tree, default_flow_style=flow, default_style=style, sort_keys=False, allow_unicode=True
    )
    paths = list(leaves(tree))
    if not paths:
        return
    path = data.draw(st.sampled_from(paths))
    before = yaml.safe_load(text)
    try:
        edit = set_values(text, {path: value})
    except InvalidInput as error:
        # PyYAML tags what it quoted against its type; such a value cannot be edited in place.
        if "tagged" not in str(error) and "block of lines" not in str(error):
            raise
        return
    put(before, path, value)
    after = yaml.safe_load(edit.text)
    assert repr(after) == repr(before)
    assert get_values(edit.text, [path]) == {path: value}


@settings(max_examples=40, deadline=None)
@given(trees, keys, scalars, st.sampled_from([None, False, True]))
def test_a_missing_key_is_added_and_all_else_stays(tree, key, value, flow):
    text = yaml.safe_dump(tree, default_flow_style=flow, sort_keys=False, allow_unicode=True)
    if key in tree:
        return
    assert yaml.safe_load(set_values(text, {key: value}).text) == {**yaml.safe_load(text), key: value}


@settings(max_examples=100, deadline=None)
@given(words)
def test_a_string_stays_a_string(value):
    edit = set_values("a: x\n", {"a": value})
    assert yaml.safe_load(edit.text) == {"a": value}


json_trees = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(10**9), 10**9), words),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)), max_leaves=8,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.data(), st.dictionaries(keys, json_trees, min_size=1, max_size=4), words, st.sampled_from([None, 2, "\t"]), st.booleans())  # fmt: skip
def test_json_stays_json(data, tree, value, indent, ascii_only):
    text = json.dumps(tree, indent=indent, ensure_ascii=ascii_only)
    paths = list(leaves(tree))
    if not paths or "\\ud" in text:
        return
    path = data.draw(st.sampled_from(paths))
    try:
        edit = set_values(text, {path: value})
    except InvalidInput as error:
        # A few characters mean a line break to YAML, or nothing, and stand for themselves in JSON: refused, never spoilt.
        if ("without touching" not in str(error) and "not valid" not in str(error)) or (
            text + value
        ).isascii():
            raise
        return
    put(tree, path, value)
    assert json.loads(edit.text) == tree
