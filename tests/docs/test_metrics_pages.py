"""The table of metrics, the queries, the dashboard and the alerts have the names and labels that the code has."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from supervisor.metrics import METRICS, STOP_BUCKETS

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "howto" / "metrics.md").read_text()
DASHBOARD = json.loads((DOCS / "prometheus" / "dashboard.json").read_text())
RULES = [
    rule
    for group in yaml.safe_load((DOCS / "prometheus" / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]

# ------------------------------------------------------------------------------------------------ what a query names

SERIES = {
    metric.name + suffix: metric
    for metric in METRICS
    for suffix in (("_bucket", "_sum", "_count") if metric.type == "histogram" else ("",))
}
ADDED = {"job", "instance"}
"""Labels that Prometheus adds when it scrapes."""

FUNCTIONS = {"sum", "max", "rate", "increase", "histogram_quantile", "label_values"}
WORDS = {"by", "and", "on"}
TOKEN = re.compile(
    r"""
    (?P<clause>\b(?:by|on)\s*\((?P<grouping>[^)]*)\))
    | (?P<selector>(?P<name>[a-z_]\w*)\s*\{(?P<matchers>[^}]*)\})
    | (?P<range>\[(?:\d+[smhd]|\$__range|\$__rate_interval)\])
    | (?P<word>[a-z_]\w*)
    | (?P<other>[\s()\d.,/<>=*+-]+)
    | (?P<unknown>.)
    """,
    re.VERBOSE | re.DOTALL,
)
MATCHER = re.compile(r'\s*(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"\s*')


def mistakes(query):
    """What a query names that is not there."""
    if query.count("(") != query.count(")"):
        yield "parentheses"
    grouped, labels = set(), set()
    for token in TOKEN.finditer(query):
        word, name = token["word"], token["name"] or token["word"]
        if token["unknown"]:
            yield f"cannot be read at {token['unknown']!r}"
        elif token["clause"]:
            grouped |= {label.strip() for label in token["grouping"].split(",")}
        elif word in FUNCTIONS or word in WORDS:
            continue
        elif name in SERIES:
            metric = SERIES[name]
            labels |= {"supervisor", *metric.labels, *ADDED, *(["le"] if name.endswith("_bucket") else [])}
            yield from wrong_matchers(metric, token["matchers"])
        elif name:
            yield f"no metric {name}"
    for label in sorted(grouped - labels):
        yield f"no label {label}"


def wrong_matchers(metric, matchers):
    for matcher in (matchers or "").split(", ") if matchers else ():
        found = MATCHER.fullmatch(matcher)
        if found is None:
            yield f"no matcher {matcher}"
            continue
        label, operator, value = found.groups()
        if label in ADDED or label == "supervisor":
            continue
        known = metric.labels.get(label, ())
        values = value.split("|") if "~" in operator else [value]
        if not known:
            yield f"{metric.name} has no label {label}"
        elif unknown := set(values) - set(known):
            yield f"{metric.name}: {label} is never {unknown}"


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("supervisor_worker > 0", "no metric supervisor_worker"),
        ("sum by (worker) (supervisor_workers)", "no label worker"),
        ("sum by (le) (rate(supervisor_stop_seconds_sum[5m]))", "no label le"),
        ('supervisor_workers{worker="a"}', "supervisor_workers has no label worker"),
        ('supervisor_workers{state="ended"}', "supervisor_workers: state is never {'ended'}"),
        ('supervisor_exits_total{ended=~"died|lost"}', "supervisor_exits_total: ended is never {'lost'}"),
        ("supervisor_stop_seconds", "no metric supervisor_stop_seconds"),
        ("rates(supervisor_exits_total[5m])", "no metric rates"),
        ("rate(supervisor_exits_total[5m]", "parentheses"),
        ("rate(supervisor_exits_total[5x])", "cannot be read at '['"),
    ],
)
def test_a_mistake_in_a_query_is_found(query, found):
    assert found in list(mistakes(query))


# ------------------------------------------------------------------------------------------------ the page

ROW = re.compile(r"^\| `(supervisor_\w+)` \| (\w+) \| ([^|]+) \| [^|]+ \| ([^|]+) \|$", re.MULTILINE)
VALUES = re.compile(r"^\| `(\w+)` \| ([^|]*) \|$", re.MULTILINE)


def test_the_table_has_exactly_the_metrics_of_the_code():
    table = [
        (name, kind, tuple(re.findall(r"`(\w+)`", labels)), text) for name, kind, labels, text in ROW.findall(PAGE)
    ]
    assert table == [(metric.name, metric.type, tuple(metric.labels), metric.help) for metric in METRICS]


def test_the_table_of_labels_has_all_of_them():
    table = {label: set(re.findall(r"`(\w+)`", values)) for label, values in VALUES.findall(PAGE)}
    assert set(table) == {label for metric in METRICS for label in metric.labels}
    for label in ("kind", "role", "step"):
        known = {value for metric in METRICS for value in metric.labels.get(label, ())}
        assert known <= table[label] <= known | {"run", "executor", "start", "ask"}


def test_the_page_has_the_buckets_of_the_code():
    (listed,) = re.findall(r"Its buckets end at\s+([\d., \nand]+) s;", PAGE)
    assert [float(number) for number in re.findall(r"[\d.]+", listed)] == list(STOP_BUCKETS)


QUERIES = re.findall(r"^```promql\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_of_the_page_names_what_there_is(query):
    assert list(mistakes(query)) == []


# ------------------------------------------------------------------------------------------------ the dashboard

PANELS = DASHBOARD["panels"]


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_names_what_there_is(panel):
    for target in panel["targets"]:
        assert list(mistakes(target["expr"])) == []
        shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
        (grouped,) = {frozenset(re.split(r",\s*", found)) for found in re.findall(r"by \((.*?)\)", target["expr"])} or {
            frozenset()
        }
        assert shown == grouped - {"le"}


def test_the_dashboard_shows_each_metric_and_lies_on_one_grid():
    shown = {
        name
        for panel in PANELS
        for target in panel["targets"]
        for name in re.findall(r"supervisor_\w+", target["expr"])
    }
    assert {SERIES[name].name for name in shown} == {metric.name for metric in METRICS}
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    cells = [
        (place["x"] + x, place["y"] + y)
        for panel in PANELS
        for place in [panel["gridPos"]]
        for x in range(place["w"])
        for y in range(place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def test_the_variables_of_the_dashboard_are_its_own_and_ask_for_what_there_is():
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert set(variables) == {"datasource", "instance", "supervisor"}
    for name in ("instance", "supervisor"):
        assert variables[name]["query"]["query"] == f"label_values(supervisor_workers, {name})"
    used = set(re.findall(r"\$\{?(\w+)", json.dumps([panel["targets"] for panel in PANELS])))
    assert used <= {*variables, "__range", "__rate_interval"}


# ------------------------------------------------------------------------------------------------ the alerts


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_names_what_there_is(rule):
    assert set(rule) - {"for"} == {"alert", "expr", "labels", "annotations"}
    assert list(mistakes(rule["expr"])) == []
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert re.fullmatch(r"\d+[mh]", rule.get("for", "1m"))
    assert re.search(r" (>|==) \d+$", rule["expr"]), "a threshold"
    metric = SERIES[re.search(r"supervisor_\w+", rule["expr"])[0]]
    grouped = re.findall(r"by \((.*?)\)", rule["expr"])
    left = set(re.split(r",\s*", grouped[0])) - {"le"} if grouped else {"supervisor", *metric.labels}
    told = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
    assert "supervisor" in told <= left


def test_alerts_speak_of_log_events_that_there_are():
    events = set(re.findall(r"(?:worker|supervisor|loop)\.\w+", json.dumps([rule["annotations"] for rule in RULES])))
    documented = set(re.findall(r"^\| `([\w.]+)` \|", (DOCS / "logs.md").read_text(), re.MULTILINE))
    assert events
    assert events <= documented


def test_there_are_alerts_panels_and_queries():
    assert len({rule["alert"] for rule in RULES}) == len(RULES) >= 5
    assert len(PANELS) >= 10
    assert len(QUERIES) >= 4
