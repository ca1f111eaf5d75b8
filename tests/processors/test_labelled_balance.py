"""What exchanges and treasuries hold at their labelled addresses, beside what they move."""

from __future__ import annotations

from dataclasses import replace

import pytest

from processors.cases import balances, case, processor_of
from utxoiq.models import Held

MOVES = ("large_deposit", "large_withdrawal", "exchange/internal_reshuffle", "accumulation", "distribution",
         "treasury/internal_reshuffle")  # fmt: skip


@pytest.mark.parametrize("name", MOVES)
async def test_what_the_labelled_addresses_hold(name: str) -> None:
    """By a ledger under the same labels, as one of the signal's inputs; else nothing of it is told."""
    made = case(name)
    (without,) = await made.said(processor_of(name))
    assert "labelled_balance" not in without.metadata
    assert "balances" not in without.inputs
    known = balances(144, entities={made.subjects[0]: Held(7, 9, 3)})
    (beside,) = await replace(made, balances=(known,)).said(processor_of(name))
    assert beside.metadata == {**without.metadata, "labelled_balance": 9, "labelled_addresses": 3}
    assert beside.inputs == {**without.inputs, "digest": beside.inputs["digest"], "balances": known.digest}
    assert beside.inputs["digest"] != without.inputs["digest"]
    assert beside.signal_id != without.signal_id
    for other in (balances(144), replace(known, labels_version="other"), replace(known, entities={"x": Held(7, 9, 3)})):
        (again,) = await replace(made, balances=(other,)).said(processor_of(name))
        assert again.metadata == without.metadata
        assert again.inputs["balances"] == other.digest  # what scripts hold beside decides of doubts, too
