import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recommender.dialects.calico_selector import SelectorError, parse_selector
from recommender.model import EVERYTHING, And, Has, In, Not, Or, Selector, Text

CASES = Path(__file__).parents[2] / "shared/conformance/calico-selectors/cases.json"
KNOWN = json.loads(CASES.read_text()) if CASES.exists() else {"match": [], "invalid": []}


@pytest.mark.skipif(not KNOWN["match"], reason="no conformance cases beside this checkout")
def test_every_published_selector_matches_as_calico_says():
    wrong = [
        case
        for case in KNOWN["match"]
        if parse_selector(case["selector"]).matches(case["labels"]) is not case["match"]
    ]
    assert wrong == []


@pytest.mark.skipif(not KNOWN["invalid"], reason="no conformance cases beside this checkout")
def test_every_published_bad_selector_is_refused():
    for text in KNOWN["invalid"]:
        with pytest.raises(SelectorError):
            parse_selector(text)


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("", EVERYTHING),
        (" \t", EVERYTHING),
        ("all()", EVERYTHING),
        ("all( )", EVERYTHING),
        ("has( a.b/c-d_e )", Has("a.b/c-d_e")),
        ("a=='b'", In("a", frozenset({"b"}))),
        ('a == "it\'s"', In("a", frozenset({"it's"}))),
        ("a != 'b'", Not(In("a", frozenset({"b"})))),
        ("a in {}", In("a", frozenset())),
        ("a in{'x','y',}", In("a", frozenset({"x", "y"}))),
        ("a not in {'x'}", Not(In("a", frozenset({"x"})))),
        ("a notin {'x'}", Not(In("a", frozenset({"x"})))),
        ("a contains'x'", Text("a", "contains", "x")),
        ("a starts \t with 'x'", Text("a", "starts with", "x")),
        ("a endswith 'x'", Text("a", "ends with", "x")),
        ("contains contains 'x'", Text("contains", "contains", "x")),
        ("has == 'x'", In("has", frozenset({"x"}))),
        ("! ! has(a)", Has("a")),
        ("!(has(a))", Not(Has("a"))),
        ("!has(a) && has(b)", And((Not(Has("a")), Has("b")))),
        ("has(a) || has(b) && has(c)", Or((Has("a"), And((Has("b"), Has("c")))))),
        ("(has(a) || has(b)) && has(c)", And((Or((Has("a"), Has("b"))), Has("c")))),
    ],
)
def test_a_selector_means(text, means):
    assert parse_selector(text) == means


@pytest.mark.parametrize(
    ("text", "column", "reason"),
    [
        ("a = 'b'", 3, "expected ==, !=, in, not in, contains, starts with or ends with"),
        ("a == b", 6, "expected a string in quotes"),
        ("a == 'b", 6, "this string has no end"),
        ("a == 'b\" && c == 'd'", 19, "expected '&&', '||' or the end"),
        ("a in 'b'", 6, "expected '{'"),
        ("a in {'b' 'c'}", 11, "expected ',' or '}'"),
        ("a in {,}", 7, "expected a string in quotes"),
        ("a in {'b'", 10, "expected ',' or '}'"),
        ("has a", 5, "expected ==, !="),
        ("has()", 5, "expected a label"),
        ("has(a", 6, "expected ')'"),
        ("all (", 5, "expected ==, !="),
        ("(has(a)", 8, "expected ')' for the '(' in column 1"),
        ("has(a) has(b)", 8, "expected '&&', '||' or the end"),
        ("has(a) & has(b)", 8, "expected '&&', '||' or the end"),
        ("has(a) &&", 10, "expected a label"),
        ("a starts 'b'", 3, "expected ==, !="),
        ("a\n== 'b'", 2, "expected ==, !="),
        ("has(ä)", 5, "expected a label"),
        ("has(" + "k" * 513 + ")", 517, "longer than 512"),
        ("(" * 101 + "has(a)" + ")" * 101, 102, "nested deeper than 100"),
    ],
)
def test_a_refusal_points_at_the_place(text, column, reason):
    with pytest.raises(SelectorError) as caught:
        parse_selector(text)
    assert (caught.value.column, reason in caught.value.reason) == (column, True), caught.value


def test_a_refusal_is_shown_with_a_caret_under_the_place():
    with pytest.raises(SelectorError) as caught:
        parse_selector("app == 'web' && tier = 'db'")
    assert str(caught.value).splitlines()[1:] == [
        "    app == 'web' && tier = 'db'",
        "                         ^",
    ]


def test_a_key_of_512_characters_is_taken():
    assert parse_selector(f"has({'k' * 512})") == Has("k" * 512)


def test_deep_nesting_within_the_limit_is_taken():
    assert parse_selector("(" * 100 + "has(a)" + ")" * 100) == Has("a")


@pytest.mark.parametrize(
    "text",
    ["a == 'x'", "a in {'x'}", "a contains ''", "a starts with ''", "a ends with ''", "has(a)"],
)
def test_an_absent_key_makes_it_false(text):
    assert parse_selector(text).matches({}) is False


@pytest.mark.parametrize("text", ["a != 'x'", "a not in {'x'}", "!has(a)", "!(a == 'x')"])
def test_an_absent_key_makes_it_true(text):
    assert parse_selector(text).matches({}) is True


def test_keys_all_and_global_are_named_by_the_caller():
    selector = parse_selector(
        "has(a) || all() || global()",
        key="pcns.".__add__,
        everything=Has("somewhere"),
        outside=Not(Has("somewhere")),
    )
    assert selector == Or((Has("pcns.a"), Has("somewhere"), Not(Has("somewhere"))))


# --- laws --------------------------------------------------------------------------------------

KEYS = st.sampled_from(["a", "has", "in", "not", "all", "contains", "k8s.io/name", "x-1_y.z"])
VALUES = st.text(alphabet="ab '\"{}()&|!é", max_size=4).filter(lambda v: not {"'", '"'} <= set(v))
SPACES = st.sampled_from(["", " ", "\t", "  "])
GAPS = st.sampled_from([" ", "\t", " \t "])
TERMS = st.one_of(
    st.just(EVERYTHING),
    st.builds(Has, KEYS),
    st.builds(In, KEYS, st.frozensets(VALUES, max_size=3)),
    st.builds(Text, KEYS, st.sampled_from(["contains", "starts with", "ends with"]), VALUES),
)


def _inside(inner):
    several = st.lists(inner, min_size=2, max_size=3).map(tuple)
    return st.one_of(st.builds(Not, inner), st.builds(And, several), st.builds(Or, several))


SELECTORS = st.recursive(TERMS, _inside, max_leaves=8)
LABELS = st.dictionaries(KEYS, VALUES, max_size=4)


def _quoted(value: str) -> str:
    return f'"{value}"' if "'" in value else f"'{value}'"


def _written(selector: Selector, draw) -> str:
    """One of the texts of a selector: spaces, parentheses and operators as Calico allows."""
    space = draw(SPACES)
    match selector:
        case And(terms) if terms:
            return f"({space}" + f"{space}&&{space}".join(_written(t, draw) for t in terms) + ")"
        case And():
            return f"all({space})"
        case Or(terms):
            return "(" + f"{space}||{space}".join(_written(t, draw) for t in terms) + f"{space})"
        case Not(In(key, values)) if len(values) == 1 and draw(st.booleans()):
            return f"{key}{space}!={space}{_quoted(next(iter(values)))}"
        case Not(In(key, values)) if draw(st.booleans()):
            word = draw(st.sampled_from(["not in", "notin", "not \t in"]))
            return f"{key}{draw(GAPS)}{word}{space}{_set(values, space)}"
        case Not(term):
            return f"!{space}{_written(term, draw)}"
        case Has(key):
            return f"has({space}{key}{space})"
        case In(key, values) if len(values) == 1 and draw(st.booleans()):
            return f"{key}{space}=={space}{_quoted(next(iter(values)))}"
        case In(key, values):
            return f"{key}{draw(GAPS)}in{space}{_set(values, space)}"
        case Text(key, how, text):
            return f"{key}{draw(GAPS)}{how}{space}{_quoted(text)}"
    raise AssertionError(selector)


def _set(values: frozenset[str], space: str) -> str:
    inside = f",{space}".join(_quoted(v) for v in sorted(values))
    return "{" + space + inside + (",}" if values and space else "}")


@given(SELECTORS, st.lists(LABELS, min_size=1, max_size=5), st.data())
def test_a_written_selector_is_read_with_the_same_truth(selector, maps, data):
    read = parse_selector(_written(selector, data.draw))
    for labels in maps:
        assert read.matches(labels) is selector.matches(labels)


@given(st.text(alphabet="ab ='\"{}()!&|,inhasotcl\t", max_size=30))
def test_any_text_is_read_or_refused_with_a_place_inside_it(text):
    column = 1
    try:
        parse_selector(text)
    except SelectorError as error:
        column = error.column
    assert 1 <= column <= len(text) + 1
