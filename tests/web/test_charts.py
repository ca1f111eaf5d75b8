"""Charts: every kind is drawn from what a store holds, says what the insight says, and nothing that is unknown."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import re
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import pytest

from helpers.process import python, said
from processors.cases import KINDS, Case, at, balances, block, case, changed, past, signal_of
from utxoiq.errors import ConfigError, StoreError
from utxoiq.insights.generator import InsightGenerator
from utxoiq.insights.slots import slots_of
from utxoiq.insights.vocabulary import KINDS as VOCABULARY
from utxoiq.models import BlockBalances, BlockRecord, Cursor, Insight, Signal
from utxoiq.persistence import open_store
from utxoiq.persistence.sqlite import SqliteStore
from utxoiq.web import charts as charts_module
from utxoiq.web.charts import METRICS, MOST_POINTS, Asked, Chart, Charts, chart_data, chart_of, thinned, together
from utxoiq.web.drawing import HEIGHT, PALETTES, SCALE, WIDTH, compact, wrapped
from utxoiq.web.health import health_app, listen_at, serve

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = (
    "$\\frac10$ <script>alert(1)</script> <b>&lt;\u202e\x1b[31m]]> $x^2$ $",
    "<a xlink:href='javascript:x' onclick=\"y\">取引所</a> &amp; %s {0} \\$\\oint$",
)


class Told(NamedTuple):
    """A store that holds one signal and its insight."""

    store: SqliteStore
    signal: Signal
    insight: Insight

    def svg(self, theme: Any = "light") -> str:
        made = chart_of(self.store, self.insight.insight_id, "svg", theme)
        assert made is not None
        return made.decode()

    def data(self) -> Chart:
        made = chart_data(self.store, self.insight.insight_id)
        assert made is not None
        return made


def told(path: Path, one: Case, signal: Signal, insight: Insight) -> Told:
    """The blocks of a case in a store of their own, with what is said of the last of them."""
    store = open_store(f"sqlite:///{path}")
    facts = [*one.facts, one.now]
    mempools = [*[None] * (len(facts) - len(one.mempools)), *one.mempools][-len(facts) :]
    flows = [*[None] * (len(facts) - len(one.flows)), *one.flows][-len(facts) :]
    held = [*[None] * (len(facts) - len(one.balances)), *one.balances][-len(facts) :]
    for i, (now, mempool, moved, large) in enumerate(zip(facts, mempools, flows, held, strict=True), 1):
        found: Any = ((signal,), (insight,)) if i == len(facts) else ((), ())
        seen, tip = replace(block(), mempool=mempool), Cursor(now.blockhash, now.height or 0)
        store.connect(BlockRecord(seen, now, *found, tip, "run", flows=moved, balances=large))
    return Told(store, signal, insight)


class Shelf:
    """Stores, made once and closed at the end."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._made, self._names = folder, dict[str, Told](), count()

    def kind(self, name: str) -> Told:
        """Of a kind's case, as it is."""
        if name not in self._made:
            signal = asyncio.run(signal_of(name))
            insight = asyncio.run(InsightGenerator().generate(signal))
            self._made[name] = self.new(case(name), signal, insight)
        return self._made[name]

    def new(self, one: Case, signal: Signal, insight: Insight) -> Told:
        name = str(next(self._names))
        self._made[name] = told(self._folder / f"{name}.db", one, signal, insight)
        return self._made[name]

    def changed(self, name: str, one: Case | None = None, headline: str | None = None, **changes: Any) -> Told:
        """The same with another past, headline, or signal."""
        usual = self.kind(name)
        signal = replace(usual.signal, **changes)
        insight = replace(usual.insight, headline=headline or usual.insight.headline)
        return self.new(one or case(name), signal, insight)

    def close(self) -> None:
        for one in self._made.values():
            one.store.close()


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = Shelf(tmp_path_factory.mktemp("charts"))
    yield made
    made.close()


def texts(svg: str) -> list[str]:
    """All that it writes, its title left out."""
    return ["".join(one.itertext()) for one in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def png_size(png: bytes) -> tuple[int, int]:
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", png[16:24])
    return width, height


# Every kind


def test_every_kind_has_a_metric() -> None:
    """Those that have words, in the same order."""
    assert sorted(METRICS) == sorted(VOCABULARY)


@pytest.mark.parametrize("name", KINDS)
def test_a_chart_says_what_the_insight_says(shelf: Shelf, name: str) -> None:
    """Headline, value, block, time and signal, as text."""
    one = shelf.kind(name)
    signal, metric = one.signal, METRICS[one.signal.signal_type, one.signal.kind]
    svg = one.svg()
    root, written = ElementTree.fromstring(svg), texts(svg)
    assert root.findtext(f"{SVG}title") == one.insight.headline
    assert one.insight.headline in " ".join(written)
    value = slots_of(signal)[metric.event] if metric.event else "0 transactions"
    assert any(text.removeprefix("−") == value for text in written)
    assert any(f"Block {signal.block_height:,} · 2023-11-" in text for text in written)
    assert any(text.endswith(f"UTC · signal {signal.signal_id[:8]}") for text in written)
    assert "SIMULATED" in written
    assert "RETRACTED" not in " ".join(written)
    assert (root.get("width"), root.get("height"), root.get("viewBox")) == ("720", "405", "0 0 720 405")


@pytest.mark.parametrize("name", KINDS)
def test_the_past_is_measured_as_the_event_is(shelf: Shelf, name: str) -> None:
    """The metric of the signal's own block is the value the signal gives."""
    one = shelf.kind(name)
    signal, metric = one.signal, METRICS[one.signal.signal_type, one.signal.kind]
    over = int(signal.metadata[metric.over]) if metric.over else 1
    size = 1008 if metric.together == "run" else over
    rows = one.store.window(signal.block_hash, size)
    asked = Asked(signal.subject, signal.inputs["labels_version"])
    measured = together([metric.of(row, asked) for row in rows], metric.together, over)[-1]
    measured = measured and measured - (signal.metadata[metric.less] if metric.less else 0)
    marked = signal.metadata[metric.event] if metric.event else 0
    assert measured == pytest.approx(metric.sign * marked, abs=0.05 if metric.scale == "blocks" else 1e-4)


@pytest.mark.parametrize("name", KINDS)
def test_points_are_the_window_in_order(shelf: Shelf, name: str) -> None:
    """One a block up to the one before the event, no more than can be drawn; all is in sight."""
    one = shelf.kind(name)
    chart = one.data()
    heights = [x for x, _ in chart.points]
    assert min(36, len(case(name).facts)) <= len(heights) <= MOST_POINTS
    assert heights == sorted(set(heights))
    assert heights[-1] == (one.signal.block_height or 0) - 1
    assert chart.event[0] == one.signal.block_height
    assert any(y is not None for _, y in chart.points)
    forecast = one.signal.signal_type == "predictive"
    assert (chart.forecast is not None) == forecast


@pytest.mark.parametrize("name", ["fee_spike", "net_outflow", "liquidity_inflow"])
def test_a_png_is_twice_as_large(shelf: Shelf, name: str) -> None:
    one = shelf.kind(name)
    for theme in ("light", "dark"):
        made = chart_of(one.store, one.insight.insight_id, "png", theme)  # type: ignore[arg-type]
        assert made is not None
        assert png_size(made) == (WIDTH * SCALE, HEIGHT * SCALE)


# What is unknown


def with_gaps(every: int) -> Case:
    """A fee spike after a past in which each so many-th block's fees are unknown."""
    usual = case("fee_spike")
    facts = [
        replace(now, package_feerate_percentiles_kvb=None) if i % every == 0 else now for i, now in enumerate(past(144))
    ]
    return replace(usual, facts=facts)


def test_unknown_is_a_gap(shelf: Shelf) -> None:
    """Neither zero nor bridged, and told where it is much."""
    one = shelf.changed("fee_spike", with_gaps(4))
    chart = one.data()
    assert [y for _, y in chart.points] == [None if i % 4 == 0 else 2.0 for i in range(144)]
    assert "25% of blocks unknown: left blank" in texts(one.svg())
    moves = max(len(re.findall("M", d)) for d in re.findall(r' d="([^"]*)"', one.svg()))
    assert moves == 36, "a line for each run of known blocks"


def test_little_unknown_is_a_gap_without_words(shelf: Shelf) -> None:
    one = shelf.changed("fee_spike", with_gaps(16))
    assert sum(y is None for _, y in one.data().points) == 9
    assert "unknown" not in " ".join(texts(one.svg()))


def test_a_known_block_between_unknown_ones_is_seen(shelf: Shelf) -> None:
    """As a point, for no line would show it."""
    assert one_in_two(shelf).svg().count("<use") > shelf.kind("fee_spike").svg().count("<use") + 70


def one_in_two(shelf: Shelf) -> Told:
    return shelf.changed("fee_spike", with_gaps(2))


def test_flows_under_other_labels_are_unknown(shelf: Shelf) -> None:
    """As they are for the processor."""
    usual = case("large_deposit")
    flows = [replace(one, labels_version="older") if one else None for one in usual.flows[:-1]]
    one = shelf.changed("large_deposit", replace(usual, flows=[*flows, usual.flows[-1]]))
    assert {y for _, y in one.data().points} == {None}
    assert "100% of blocks unknown: left blank" in texts(one.svg())


def test_blocks_of_unknown_pools_are_told(shelf: Shelf) -> None:
    """They count as nobody's, which lowers the share."""
    usual = case("pool_share_shift")
    facts = [replace(now, pool=None) if i % 2 else now for i, now in enumerate(usual.facts)]
    one = shelf.changed("pool_share_shift", replace(usual, facts=facts))
    assert "Pool unknown in 50% of blocks" in texts(one.svg())


def watched(shelf: Shelf, *each: BlockBalances | None) -> list[float | None]:
    """Points of an address that passes 1,000 BTC in a last block, after blocks of these balances."""
    now, last = at(len(each)), balances(len(each), changed(900, 1200))
    one = Case(past(len(each)), now, balances=(*each, last))
    seen = shelf.changed("balance_above", one, block_hash=now.blockhash, block_height=now.height)
    return [y for _, y in seen.data().points]


QUIET, OTHERS = [balances(i) for i in range(9)], "0014" + "5b" * 20


def test_a_balance_is_read_back_from_its_changes(shelf: Shelf) -> None:
    """Through blocks that left it as it was, whatever they did to others."""
    each = (QUIET[0], balances(1, changed(500, 300)), QUIET[2], balances(3, changed(300, 900)), QUIET[4],
            balances(5, changed(0, 7000, OTHERS)))  # fmt: skip
    assert watched(shelf, *each) == [500, 300, 300, 900, 900, 900]


def test_a_balance_across_an_unknown_block(shelf: Shelf) -> None:
    """Is known from there on, and up to there where an earlier change tells it."""
    assert watched(shelf, QUIET[0], QUIET[1], None, QUIET[3]) == [None, None, 900, 900]
    each = (QUIET[0], balances(1, changed(500, 300)), QUIET[2], None, None, QUIET[5])
    assert watched(shelf, *each) == [500, 300, 300, None, 900, 900]


def test_a_balance_that_changed_unseen(shelf: Shelf) -> None:
    """Below what the ledger tells: what is told before it stays right."""
    each = (QUIET[0], balances(1, changed(1200, 60)), QUIET[2], balances(3, changed(10, 900)))
    assert watched(shelf, *each) == [1200, 60, 10, 900]


def test_an_unknown_balance_is_told(shelf: Shelf) -> None:
    """Counted by what is not drawn: one unknown block takes all before it away."""
    assert watched(shelf, *QUIET[:8], None) == [*[None] * 8, 900]
    one = shelf.changed("balance_gathered", replace(case("balance_gathered"), balances=()))
    assert {y for _, y in one.data().points} == {None}
    assert "100% of blocks unknown: left blank" in texts(one.svg())


def test_what_all_large_addresses_hold_is_told_as_a_change(shelf: Shelf) -> None:
    """From where the window began: beside two million bitcoins nothing of it would be seen."""
    for name, change in (("large_holders_gain", 50_000), ("large_holders_loss", -50_000)):
        chart = shelf.kind(name).data()
        assert {y for _, y in chart.points} == {0}
        assert chart.event[1] == change
        assert chart.title == "Held by large addresses, against 576 blocks before, BTC"


def test_no_earlier_block(shelf: Shelf) -> None:
    """A block that stands alone: its value, and that there is no past."""
    one = shelf.changed("fee_overpaid", replace(case("fee_overpaid"), facts=()))
    assert one.data().points == []
    assert "No earlier block is stored" in texts(one.svg())
    assert "2 BTC" in texts(one.svg())


def test_a_block_of_unknown_height(shelf: Shelf) -> None:
    """Blocks are counted back from it."""
    one = shelf.changed("fee_spike", block_height=None)
    assert one.data().points[-1][0] == -1
    assert any("Block of unknown height" in text for text in texts(one.svg()))
    assert "−100" in texts(one.svg())


@pytest.mark.parametrize("value", [None, "20", [1], True, {}])
def test_metadata_of_no_number(shelf: Shelf, value: Any) -> None:
    """What the store knows of the block stands for it, and lines that are unknown are left out."""
    metadata = {**shelf.kind("fee_spike").signal.metadata, "feerate_kvb": value, "usual_feerate_kvb": value,
                "window_blocks": value}  # fmt: skip
    chart = shelf.changed("fee_spike", metadata=metadata).data()
    assert (chart.event[1], chart.event_text, chart.lines) == (20, "20 sat/vB", [])
    assert len(chart.points) == 144


def test_sums_of_unknown_are_unknown() -> None:
    assert together([1, 2, None, 4, 5, 6], "sum", 2) == [3, None, None, 9, 11]
    assert together([1, 0, None, 1], "share", 2) == [0.5, 0.0, 0.5]
    assert together([1, 1, 0, None, 1, 1], "run", 1) == [1, 2, 0, None, 1, 2]
    assert together([1], "sum", 2) == []


def test_many_points_are_put_together() -> None:
    """By their median or the furthest from zero, whichever side; a bucket of unknown ones is unknown; the newest
    bucket is whole."""
    points: list[tuple[int, float | None]] = [(i, float(i % 3)) for i in range(3 * MOST_POINTS - 1)]
    small, large = thinned(points, largest=False), thinned(points, largest=True)
    assert len(small) == len(large) == MOST_POINTS
    assert small[-1] == (points[-1][0], 1.0)
    assert large[-1] == (points[-1][0], 2.0)
    assert thinned([(x, -(y or 0)) for x, y in points], largest=True)[-1][1] == -2.0
    assert thinned([(x, None) for x, _ in points], largest=True)[-1][1] is None
    assert thinned(points[:MOST_POINTS], largest=True) == points[:MOST_POINTS]


def test_a_window_longer_than_can_be_drawn(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is thinned, with its time."""
    monkeypatch.setattr(charts_module, "MOST_POINTS", 50)
    chart = shelf.kind("net_inflow").data()
    assert 40 < len(chart.points) <= 50
    assert all(x in chart.times for x, _ in chart.points)


# The same, and nothing else


@pytest.mark.parametrize("name", ["fee_drop", "pool_streak", "feerate_rise"])
def test_the_same_store_gives_the_same_bytes(shelf: Shelf, name: str) -> None:
    """Also from a process that draws nothing else, with another hash seed."""
    one = shelf.kind(name)
    made = [chart_of(one.store, one.insight.insight_id, form, "light") for form in ("svg", "png") for _ in range(2)]  # type: ignore[arg-type]
    assert made[0] == made[1]
    assert made[2] == made[3]
    code = f"""
import hashlib
from utxoiq.persistence import open_store
from utxoiq.web.charts import chart_of
with open_store("sqlite:///{one.store.database.path}") as store:
    for form in ("svg", "png"):
        print(hashlib.sha256(chart_of(store, "{one.insight.insight_id}", form, "light")).hexdigest())"""
    process = python("-c", code)
    assert process.returncode == 0, said(process)
    assert process.stdout.split() == [hashlib.sha256(one or b"").hexdigest() for one in made[::2]]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_text_and_nothing_else(shelf: Shelf, name: str) -> None:
    """No formula, no markup, no link, no control character."""
    one = shelf.changed("large_deposit", headline=f"In: {name}")
    svg = one.svg()
    root = ElementTree.fromstring(svg)
    meant = " ".join(f"In: {name}".translate(dict.fromkeys(map(ord, "\u202e\x1b"))).split())
    assert root.findtext(f"{SVG}title") == meant
    assert "".join(meant.split()) in "".join("".join(texts(svg)).split())
    assert not {"\u202e", "\x1b"} & set(svg)
    plain = {"svg", "title", "defs", "style", "g", "path", "text", "use", "clipPath", "rect"}
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= plain
    links = [value for element in root.iter() for key, value in element.attrib.items() if "href" in key]
    assert all(link.startswith("#") for link in links)
    assert not any(key.startswith("on") for element in root.iter() for key in element.attrib)
    assert chart_of(one.store, one.insight.insight_id, "png", "dark")


def test_no_address_and_no_date_in_a_file(shelf: Shelf) -> None:
    """Nothing that a viewer would fetch, nor when or with what it was made."""
    svg = shelf.kind("fee_spike").svg()
    assert set(re.findall(r"https?://[^\"']*", svg)) == {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "DOCTYPE" not in svg
    assert "metadata" not in svg
    assert "Matplotlib" not in svg


def test_text_is_text_in_the_readers_font(shelf: Shelf) -> None:
    svg = shelf.kind("fee_spike").svg()
    fonts = set(re.findall(r"font-family: ([^;\"]*)", svg))
    assert len(fonts) == 1
    assert fonts.pop().startswith("system-ui, ")


@pytest.mark.filterwarnings("ignore:Glyph")
def test_long_headlines(shelf: Shelf) -> None:
    """Two lines at most, each of which fits."""
    assert wrapped("Fees rose") == ["Fees rose"]
    assert len(wrapped("W" * 300)) == 2
    assert wrapped("W" * 300)[1].endswith("…")
    assert wrapped("a" * 40 + " " + "b" * 30) == ["a" * 40, "b" * 30]
    assert "".join(wrapped("取" * 40)) == "取" * 40
    one = shelf.changed("fee_spike", headline="取引所 " + "W" * 76)
    assert [text[-1] for text in texts(one.svg()) if "WW" in text] == ["…"]


def test_numbers_of_an_axis() -> None:
    shown = {
        0: "0",
        1.5: "1.5",
        1200: "1,200",
        12_500: "12.5k",
        2e6: "2M",
        1.5e9: "1.5G",
        0.0025: "0.0025",
        -300: "−300",
    }
    assert {value: compact(value) for value in shown} == shown


# Marks


def test_a_real_one_is_not_called_simulated(shelf: Shelf) -> None:
    assert "SIMULATED" not in texts(shelf.changed("fee_spike", simulated=False).svg())


def test_a_retracted_one_says_so(shelf: Shelf) -> None:
    """From then on, also where it was drawn before; and no more once its block is back."""
    one = shelf.changed("fee_spike", headline="Fees rose, it seemed")
    kept = Charts(one.store)
    before = kept(one.insight.insight_id, "svg", "light")
    assert before is not None
    assert kept(one.insight.insight_id, "svg", "light") is before
    one.store.disconnect(one.signal.block_hash, "run")
    after = kept(one.insight.insight_id, "svg", "light")
    assert after is not None
    assert "SIMULATED · RETRACTED" in texts(after.decode())
    assert "Fees rose, it seemed" in texts(after.decode())


def test_only_the_last_ones_are_kept(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charts_module, "KEPT", 1)
    one = shelf.kind("fee_spike")
    kept = Charts(one.store)
    first = kept(one.insight.insight_id, "svg", "light")
    assert kept(one.insight.insight_id, "svg", "dark") != first
    assert kept(one.insight.insight_id, "svg", "light") is not first
    assert kept("none", "svg", "light") is None


def test_a_forecast_has_its_interval(shelf: Shelf) -> None:
    """At the block it is of, in the unit of the axis."""
    usual = shelf.kind("feerate_rise").signal
    metadata = {**usual.metadata, "confidence_interval": [1500, 4500], "predicted_value": 2500}
    one = shelf.changed("feerate_rise", metadata=metadata)
    ahead = one.data().forecast
    assert ahead is not None
    assert (ahead.x, ahead.low, ahead.y, ahead.high) == (usual.metadata["target_height"], 1.5, 2.5, 4.5)
    assert {"forecast 2.5 sat/vB", "80% interval 1.5 to 4.5 sat/vB"} <= set(texts(one.svg()))


def test_outward_is_below_zero(shelf: Shelf) -> None:
    """Of net flows and of their forecasts, with the same digits as the words."""
    chart = shelf.kind("net_outflow").data()
    assert chart.event[1] == pytest.approx(-298.2)
    assert chart.event_text == "−298.2 BTC"
    ahead = shelf.kind("liquidity_outflow").data().forecast
    assert ahead is not None
    assert ahead.low <= ahead.y <= ahead.high < 0
    assert ahead.text == "forecast −993.6 BTC"


# Colours


def luminance(color: str) -> float:
    """Relative, as WCAG defines it."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted([luminance(one), luminance(other)], reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_can_be_read(shelf: Shelf, theme: Any) -> None:
    """At least 4.5 to 1 against the ground for each colour that text has, 3 to 1 for lines."""
    palette = PALETTES[theme]
    used = {color for style in re.findall(r'<text style="([^"]*)"', shelf.kind("fee_spike").svg(theme))
            for color in re.findall(r"fill: (#[0-9a-f]{6})", style)}  # fmt: skip
    assert used == {palette.text, palette.quiet, palette.event, palette.alarm}
    assert min(contrast(color, palette.paper) for color in used) >= 4.5
    assert contrast(palette.line, palette.paper) >= 3
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


def test_sizes_can_be_read_on_a_phone(shelf: Shelf) -> None:
    """At 360 pixels, half of what it is drawn at, nothing is below 9."""
    sizes = {float(size) for size in re.findall(r"font-size: ([\d.]+)px", shelf.kind("fee_spike").svg())}
    assert min(sizes) / 2 >= 9


def test_themes_differ(shelf: Shelf) -> None:
    """In colours, and in nothing else."""
    light, dark = shelf.kind("fee_spike").svg("light"), shelf.kind("fee_spike").svg("dark")
    assert light != dark
    assert texts(light) == texts(dark)
    assert PALETTES["dark"].paper in dark
    assert PALETTES["dark"].paper not in light


# Without, and over HTTP


def test_no_such_insight(shelf: Shelf) -> None:
    store = shelf.kind("fee_spike").store
    assert chart_of(store, "none", "svg", "light") is None
    assert chart_of(store, shelf.kind("fee_spike").insight.insight_id[:-1], "svg", "light") is None


def test_a_kind_without_a_metric(shelf: Shelf) -> None:
    """A third party's has no chart, and no address of one."""
    one = shelf.changed("fee_spike", kind="foreign")
    assert chart_of(one.store, one.insight.insight_id, "svg", "light") is None


def test_without_matplotlib(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that says what to install."""
    one = shelf.kind("fee_spike")
    monkeypatch.setitem(sys.modules, "utxoiq.web.drawing", None)
    with pytest.raises(ConfigError, match=r"pip install 'utxoiq\[charts\]'") as raised:
        chart_of(one.store, one.insight.insight_id, "svg", "light")
    assert "\n" not in str(raised.value)


def test_nothing_is_imported_before_a_chart_is_asked_for() -> None:
    process = python("-c", "import sys, utxoiq.service, utxoiq.web.charts; print('matplotlib' in sys.modules)")
    assert process.stdout.strip() == "False", said(process)


@asynccontextmanager
async def serving(charts: Any) -> AsyncIterator[str]:
    listening = listen_at("127.0.0.1:0")
    app = health_app(lambda: {"ready": True}, lambda: (b"", "text/plain"), charts)
    task = asyncio.create_task(serve(app, listening))
    try:
        yield f"127.0.0.1:{listening.getsockname()[1]}"
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        listening.close()


async def fetch(address: str, *paths: str) -> list[tuple[int, dict[str, str], bytes]]:
    """Status, headers and body of each."""

    def ask(path: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(address, timeout=60)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    return list(await asyncio.gather(*(asyncio.to_thread(ask, path) for path in paths)))


@pytest.fixture(scope="module")
def spike(shelf: Shelf) -> Told:
    return shelf.kind("fee_spike")


async def test_served(spike: Told) -> None:
    """At the address the insight gives, as SVG or PNG, light or dark."""
    url = spike.insight.chart_url or ""
    assert url == f"/charts/{spike.insight.insight_id}.svg"
    png = url.replace(".svg", ".png")
    async with serving(Charts(spike.store)) as address:
        light, dark, small, again = await fetch(address, url, f"{url}?theme=dark", f"{png}?theme=dark", url)
    assert [one[0] for one in (light, dark, small, again)] == [200] * 4
    assert light[2] == again[2] == chart_of(spike.store, spike.insight.insight_id, "svg", "light")
    assert dark[2] != light[2]
    assert png_size(small[2]) == (1440, 810)
    assert (light[1]["content-type"], small[1]["content-type"]) == ("image/svg+xml", "image/png")
    assert light[1]["content-security-policy"].startswith("default-src 'none'; style-src 'unsafe-inline'")
    assert light[1]["cache-control"] == "public, max-age=60"
    assert light[1]["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(("path", "status"), [
    ("/charts/none.svg", 404), ("/charts/..svg", 404), ("/charts/none.gif", 400), ("/charts/none.SVG", 400),
    ("/charts/none.svg?theme=blue", 400), ("/charts/none.svg?theme=", 400), ("/charts/%00%ff'.svg", 404),
])  # fmt: skip
async def test_what_is_not_served(spike: Told, path: str, status: int) -> None:
    """JSON that says why."""
    async with serving(Charts(spike.store)) as address:
        ((got, headers, body),) = await fetch(address, path)
    assert got == status
    assert headers["content-type"] == "application/json"
    assert set(json.loads(body)) == {"error"}


async def test_a_store_that_fails() -> None:
    """503 with the reason, and the server goes on."""

    def broken(*_: str) -> bytes | None:
        raise StoreError("the disk is full")

    async with serving(broken) as address:
        first, health = await fetch(address, "/charts/x.svg", "/healthz")
    assert (first[0], json.loads(first[2])) == (503, {"error": "the disk is full"})
    assert health[0] == 200


async def test_none_where_none_are_made() -> None:
    async with serving(None) as address:
        (answer,) = await fetch(address, "/charts/x.svg")
    assert answer[0] == 404
