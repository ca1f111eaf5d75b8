"""History and windows of it: slices of one growing row of blocks, and what is derived of each block once."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.cases import at, flows, gets, rows, snapshot, transfer
from utxoiq.history import History, Past, Window

Script = list[tuple[str, int, int]]


def past(size: int) -> list[Past]:
    return rows(at(i) for i in range(size))


def height(row: Past) -> int:
    return row.facts.height or 0


def height_times(row: Past, factor: int) -> int:
    return height(row) * factor


def counted() -> tuple[Callable[[Past], int], Counter[int]]:
    """The height of a row, and how often it was asked for each."""
    calls: Counter[int] = Counter()

    def ask(row: Past) -> int:
        calls[height(row)] += 1
        return height(row)

    return ask, calls


def test_a_window_is_a_sequence_of_facts() -> None:
    """Length, items from either end, order, membership."""
    each = past(5)
    window = Window.of(each)
    assert len(window) == 5
    assert list(window) == [row.facts for row in each]
    assert [window[i] for i in (0, 4, -1, -5)] == [each[i].facts for i in (0, 4, -1, -5)]
    assert each[2].facts in window
    assert list(reversed(window)) == [row.facts for row in reversed(each)]


@pytest.mark.parametrize("index", [5, -6, 100])
def test_outside_a_window_there_is_nothing(index: int) -> None:
    """Not even where its history goes on."""
    history = History(past(20))
    with pytest.raises(IndexError):
        Window(history, 5, 10)[index]


def test_an_empty_window() -> None:
    window = Window.of()
    assert len(window) == 0
    assert not window
    assert list(window) == window.rows == window.series(height) == []
    assert window.column(height).tolist() == []
    assert len(window[:5]) == len(window.last(3)) == 0
    with pytest.raises(IndexError):
        window[0]


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 8), st.integers(0, 8), *[st.none() | st.integers(-12, 12)] * 2)
def test_a_slice_is_what_a_lists_is(start: int, stop: int, low: int | None, high: int | None) -> None:
    """Of any bounds, also of a window in the middle of a history, and of a slice again."""
    each = past(8)
    window, plain = Window(History(each), min(start, stop), max(start, stop)), each[min(start, stop) : max(start, stop)]
    assert window[low:high].rows == plain[low:high]
    assert list(window[low:high]) == [row.facts for row in plain[low:high]]
    assert window[low:high][1:].rows == plain[low:high][1:]
    assert window[low:high].series(height) == [height(row) for row in plain[low:high]]


@pytest.mark.parametrize(("size", "kept"), [(0, 0), (3, 3), (8, 8), (99, 8)])
def test_the_last_blocks(size: int, kept: int) -> None:
    """Of a window as of a history: as many as there are."""
    history = History(past(8))
    wanted = history.rows[8 - kept :]
    assert history.window(size).rows == wanted
    assert Window.of(past(8)).last(size).rows == wanted


def test_a_window_stays_when_its_history_grows() -> None:
    """What was a window of five blocks is one of the same five."""
    history = History(past(5))
    window = history.window(3)
    for row in past(9)[5:]:
        history.append(row)
    assert list(window) == [row.facts for row in past(5)[2:]]
    assert window.series(height) == [at(i).height for i in (2, 3, 4)]
    assert len(history.window(99)) == 9


def test_flows_and_mempools_stand_beside_their_block() -> None:
    """In `rows` and for what is derived, and in a slice."""
    facts = [at(i) for i in range(3)]
    moved = [flows(facts[i], transfer({"borealis": gets(i + 1)})) for i in range(3)]
    window = Window.of(rows(facts, [snapshot(i) for i in range(3)], moved))
    assert [row.flows and row.flows.entities["borealis"].arrived for row in window.rows] == [
        10**8,
        2 * 10**8,
        3 * 10**8,
    ]
    assert [row.mempool for row in window[1:].rows] == [snapshot(1), snapshot(2)]
    assert all(row.flows and row.flows.transfers == [] for row in window.rows)


scripts = st.lists(
    st.tuples(st.sampled_from(["append", "series", "column", "args"]), st.integers(0, 30), st.integers(0, 30)),
    min_size=1, max_size=40,
)  # fmt: skip


@settings(max_examples=120, deadline=None)
@given(st.integers(0, 6), scripts)
def test_what_is_kept_is_what_would_be_computed(begin: int, script: Script) -> None:
    """After any order of growth and of windows: series and columns are a plain recomputation of their rows; earlier
    columns keep their values."""
    each = past(begin + len(script))
    history, given_out = History(each[:begin]), []
    for step, low, high in script:
        size = len(history.rows)
        if step == "append":
            history.append(each[size])
            continue
        start, stop = sorted((low % (size + 1), high % (size + 1)))
        window, rows_ = Window(history, start, stop), history.rows[start:stop]
        wanted = [height_times(row, low) if step == "args" else height(row) for row in rows_]
        if step == "column":
            given_out.append((window.column(height), wanted))
        elif step == "series":
            assert window.series(height) == wanted
        else:
            assert window.series(height_times, low) == wanted
            given_out.append((window.column(height_times, low), wanted))
    for column, wanted in given_out:
        assert column.dtype == np.int64
        assert column.tolist() == wanted


@pytest.mark.parametrize("kept", [Window.series, Window.column])
def test_each_row_is_looked_at_once(kept: Callable[..., Any]) -> None:
    """However many windows ask, in whatever order; another argument is another column."""
    ask, calls = counted()
    history = History(past(4))
    for i in range(4, 40):
        history.append(past(40)[i])
        kept(history.window(3), ask)
        kept(history.window(99), ask)
    assert calls == Counter({at(i).height: 1 for i in range(40)})


def test_a_series_is_the_callers_own() -> None:
    """Changing the list that was given out changes nothing for others."""
    window = Window.of(past(3))
    window.series(height).clear()
    window.rows.clear()
    assert window.series(height) == [at(i).height for i in range(3)]
    assert len(window) == len(window.rows) == 3


def test_two_histories_share_nothing() -> None:
    """The same function of another history is of its own rows."""
    ask, _ = counted()
    one, other = History(past(3)), History(past(6)[3:])
    assert one.window(9).series(ask) == [at(i).height for i in range(3)]
    assert other.window(9).series(ask) == [at(i).height for i in range(3, 6)]


def test_one_that_fails_is_asked_again() -> None:
    """A row that could not be derived raises each time, for all who ask, and those before it are not asked anew."""
    calls: list[int] = []

    def careful(row: Past) -> int:
        calls.append(height(row))
        if height(row) == at(2).height:
            raise KeyError("odd")
        return height(row)

    window = Window.of(past(4))
    for _ in range(2):
        with pytest.raises(KeyError, match="odd"):
            window.series(careful)
    assert window[:2].series(careful) == [at(0).height, at(1).height]
    assert calls == [at(i).height for i in (0, 1, 2, 2)]


def test_threads_may_ask_at_the_same_time() -> None:
    """Eight threads over a history that a ninth lets grow: each sees what its rows give, each row is derived once."""
    ask, calls = counted()
    each, wrong = past(300), []
    history, start = History(each[:20]), threading.Barrier(9)

    def look() -> None:
        start.wait()
        while True:
            window = history.window(50)
            rows_ = window.rows
            if window.series(ask) != [height(row) for row in rows_]:
                wrong.append("series")
            if window.column(height).tolist() != [height(row) for row in rows_]:
                wrong.append("column")
            if len(history.rows) == 300:
                return

    def grow() -> None:
        start.wait()
        for row in each[20:]:
            history.append(row)

    threads = [threading.Thread(target=look) for _ in range(8)] + [threading.Thread(target=grow)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert set(calls.values()) == {1}
