"""Dashboard and alerts ask for what is really exposed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from observability.emitting import Exposed, emit_all, exposed
from observability.promql import RANGED, NotPromQL, parse
from utxoiq.observability import METRICS, MonitoringModule

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana/utxoiq.json").read_text())
ALERTS = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
RULES: list[dict[str, Any]] = [rule for group in ALERTS["groups"] for rule in group["rules"]]


class Asked(NamedTuple):
    """An expression, and the labels that are shown of its result."""

    name: str
    expr: str
    shown: set[str]


ASKED = [
    *(
        Asked(panel["title"], target["expr"], set(re.findall(r"{{\s*(\w+)\s*}}", target["legendFormat"])))
        for panel in PANELS
        for target in panel.get("targets", ())
    ),
    *(
        Asked(rule["alert"], rule["expr"], set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"]))))
        for rule in RULES
    ),
]


@pytest.fixture(scope="module")
def series() -> dict[str, Exposed]:
    """What a scrape gives when everything has happened once."""
    module = MonitoringModule()
    emit_all(module)
    there = exposed(module)
    module.shutdown()
    return there


@pytest.mark.parametrize("asked", ASKED, ids=lambda a: a.name)
def test_expressions_ask_for_what_is_exposed(series: dict[str, Exposed], asked: Asked) -> None:
    """Names with all their suffixes, labels, rates of counters only, quantiles over `le`."""
    query = parse(asked.expr)
    available: set[str] = set()
    for selector in query.selectors:
        there = series[selector.metric]
        assert selector.labels <= there.labels, selector
        available |= there.labels
        if selector.within != "absent":
            assert (selector.within in RANGED - {"deriv"}) == (there.kind != "gauge"), selector
    assert query.grouped_by <= available
    assert asked.shown <= query.grouped_by
    if "histogram_quantile" in asked.expr:
        assert "le" in query.grouped_by


def test_every_metric_is_shown() -> None:
    """What nobody looks at need not be measured."""
    panels = " ".join(target["expr"] for panel in PANELS for target in panel.get("targets", ()))
    assert [m.prometheus for m in METRICS.values() if m.prometheus not in panels] == []


def test_quantiles_have_a_bucket_at_the_limit_of_their_alert() -> None:
    """Between two bounds a quantile is a guess, which may be on the wrong side."""
    found = 0
    for rule in RULES:
        if match := re.search(r"\((?:rate)\((\w+)_bucket.*> (\d+)$", rule["expr"]):
            (metric,) = [m for m in METRICS.values() if m.prometheus == match[1]]
            assert float(match[2]) in metric.buckets[:-1]
            found += 1
    assert found == 2


def test_alerts_are_what_an_operator_is_promised() -> None:
    assert {(rule["alert"], rule.get("for", "0m")) for rule in RULES} == {
        ("UtxoiqAbsent", "5m"),
        ("UtxoiqNodeNotReady", "5m"),
        ("UtxoiqStoreBehindSource", "10m"),
        ("UtxoiqNoBlock", "75m"),
        ("UtxoiqPipelineSlow", "10m"),
        ("UtxoiqWarehouseBehind", "15m"),
        ("UtxoiqPersistenceSlow", "10m"),
        ("UtxoiqStaleSignals", "15m"),
        ("UtxoiqBalancesUnknown", "30m"),
        ("UtxoiqErrorRate", "10m"),
        ("UtxoiqProcessorFailing", "5m"),
        ("UtxoiqConfigReloadFailed", "0m"),
    }
    for rule in RULES:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]


def test_panels_lie_side_by_side() -> None:
    """In a grid of 24, none over another, each with an id of its own, in the rows that are promised."""
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    assert [panel["title"] for panel in PANELS if panel["type"] == "row"] == [
        "Chain", "Latency", "Signals", "Insights and AI providers", "Errors", "Mempool", "Backfill", "Warehouse",
        "Balances",
    ]  # fmt: skip


def test_the_data_source_is_the_reader_s_choice() -> None:
    """No id of one installation."""
    (variable,) = DASHBOARD["templating"]["list"]
    assert (variable["name"], variable["type"], variable["query"]) == ("datasource", "datasource", "prometheus")
    sources = [panel["datasource"]["uid"] for panel in PANELS if "datasource" in panel]
    sources += [target["datasource"]["uid"] for panel in PANELS for target in panel.get("targets", ())]
    assert set(sources) == {"${datasource}"}


WRONG = [
    "sum(rate(x[5m])", "rate(x)", "x[5m]", "sum(x))", "sum by (a (x)", "x{a=b}", 'x{="b"}', "x >", "> 1",
    "rat(x[5m])", "x y", "rate(x[5])", "1.2.3", 'x{a="b"', "x ? y", "",
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_no_promql_is_found(wrong: str) -> None:
    with pytest.raises(NotPromQL):
        parse(wrong)
