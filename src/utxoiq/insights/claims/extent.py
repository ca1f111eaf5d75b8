"""What goes beyond the data: certainty, completeness, denials, doings, and proofs of a confidence."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from utxoiq.insights.claims.reading import CLAUSE_END, Reading, reasons, sentences
from utxoiq.insights.lexicon import pattern, pattern_of_kind
from utxoiq.processors.calibration import RESOLVED

if TYPE_CHECKING:
    from collections.abc import Iterator

RULES = ("a rule, read off the block", "a rule, read off the ledger of balances")
"""Bases of what needs no statistics."""


HALF = 0.5
HELD = {"balance", "held", "labelled_balance"}
"""Values of signals that tell what somebody holds."""


def certainty(reading: Reading) -> list[str]:
    """Nothing surer or greater than data can show."""
    rest, allowed, told = pattern("nearly_all").sub(" ", reading.rest), reading.allowed, reading.signal.metadata
    names = ["overstated", "ever", *(() if reading.signal.kind == "halving" else ("first",))]
    names += ["whole_amount"] if allowed.at_least and reading.about_signal else []
    names += [] if allowed.extreme or not reading.about_signal or pattern("on_record").search(rest) else ["record"]
    names += ["not_largest"] if told.get("larger_before") == 0 else []
    names += [] if reading.signal.signal_type == "treasury" or HELD & {*told} else ["balance"]
    found = [one for name in names for one in pattern(name).findall(rest)]
    deniable = ("guarantee", "definit") if pattern("certain_denied").search(rest) else ()
    found += [one for one in pattern("certain").findall(rest) if not one.lower().startswith(deniable)]
    return reasons("more than the signal shows", found)


def completeness(reading: Reading) -> list[str]:
    """Nothing told of all of it, or of most of it, that is true of a part."""
    rest, told = pattern("nearly_all").sub(" ", reading.rest), reading.signal.metadata
    names = [] if 0 in (told.get("balance"), told.get("balance_before")) else ["all_of"]
    names += ["emptied"] if told.get("balance", "amount" in told) else []
    names += ["none_before"] if told.get("empty_before") else []
    names += ["change_returned"] if told.get("change") == 0 else []
    if told.get("unknown_share") not in (0, 1) and told.get("balance_before") != 0:
        names.append("all_of_it")
    if isinstance(share := told.get("share"), float) and share <= HALF:
        names.append("majority")
    in_one_piece = 1 in (told.get("transactions"), told.get("coins"), told.get("outputs"))
    whole = pattern("in_one_piece").sub(" ", rest) if in_one_piece else rest
    found = [one for name in names for one in pattern(name).findall(whole if name.startswith("all_of") else rest)]
    return reasons("more than the signal shows", found)


def denials(reading: Reading) -> list[str]:
    """Only what is known not to be is denied."""
    wrong = [match[0] for match in pattern("denial").finditer(reading.rest) if not _may_deny(match, reading)]
    return reasons("a denial of something", wrong)


def _may_deny(match: re.Match[str], reading: Reading) -> bool:
    denial, told = match[0], reading.rest[max(0, match.start() - 12) : match.end()]
    if any(pattern(name).search(told) for name in ("safe_denial", *_conditions(reading))):
        return True
    if reading.allowed.extreme and pattern("unequalled").search(denial):
        return True
    if not reading.about_signal:
        sentence = next(one for one in sentences(reading.rest) if one[0] <= match.start() < one[1])
        return not pattern("boasting").search(denial) or bool(
            pattern("open_outcome").search(reading.rest, sentence[0], sentence[1])
        )
    of_kind = pattern_of_kind("safe_of_kind", reading.signal.signal_type, reading.signal.kind)
    return of_kind is not None and of_kind.match(denial) is not None


def _conditions(reading: Reading) -> Iterator[str]:
    """The patterns of what this signal lets be denied."""
    told = reading.signal.metadata
    if not reading.about_signal:
        yield "deniable_of_confidence"
    elif "unknown" in (told.get("counterparty"), told.get("holder")) or told.get("unknown_share"):
        yield "deniable_unknown"
    if told.get("unknown_share") == 0:
        yield "deniable_known"
    if told.get("balance_before") == 0:
        yield "deniable_before"
    if told.get("balance") == 0:
        yield "deniable_balance"
    if told.get("coinbase_outputs") == 0:
        yield "deniable_coinbase"
    if told.get("change") == 0:
        yield "deniable_change"
    if reading.signal.confidence_basis.get("basis") in RULES:
        yield "deniable_rule"


def attribution(reading: Reading) -> list[str]:
    """What labels know is told as known, and what they don't as unknown."""
    told, found = reading.signal.metadata, list[str]()
    if told.get("unknown_share") == 0:
        found += pattern("told_unattributed").findall(pattern("deniable_known").sub(" ", reading.rest))
    if "unknown" in (told.get("counterparty"), told.get("holder")):
        found += pattern("told_attributed").findall(reading.rest)
    return reasons("what labels know is told otherwise", found)


def doings(reading: Reading) -> list[str]:
    """Nobody's doings, no cause and no price: no signal holds them."""
    names = ("doers", "acting", "brought_about", "purpose", "under_way", "price", "identities", "namesakes")
    rest = pattern("flowing").sub(" ", reading.rest) if reading.allowed.flow in ("in", "out") else reading.rest
    found = [one for name in names for one in pattern(name).findall(rest)]
    return reasons("doings the signal doesn't show", found)


def calibration(reading: Reading) -> list[str]:
    """Only what a rule says is proven; what was measured is calibrated, and on a real chain only what was there."""
    basis = reading.signal.confidence_basis
    if basis.get("basis") in RULES:
        return []
    rest = pattern("proved_right").sub(" ", reading.rest) if basis.get("calibrated") else reading.rest
    claimed = [clause for clause in CLAUSE_END.split(rest) if not pattern("denied").search(clause)]
    found = [one for clause in claimed for one in pattern("proven").findall(clause)]
    found = [one for one in found if not (basis.get("calibrated") and one.lower() == "calibrated")]
    if basis.get("basis") != RESOLVED:
        found += [one for clause in claimed for one in pattern("real_chain").findall(clause)]
    found += pattern("uncalibrated" if basis.get("calibrated") else "not_uncalibrated").findall(reading.rest)
    return reasons("a proof the confidence doesn't have", found)


def sources(reading: Reading) -> list[str]:
    """A confidence comes from what the program counted, and from nobody's word nor from what came later."""
    by_rule = reading.signal.confidence_basis.get("basis") in RULES
    told = pattern("rather").sub(" ", pattern("denial").sub(" ", reading.rest))
    if reading.signal.confidence_basis.get("calibrated"):
        told = pattern("proved_right").sub(" ", told)
    found = [one for name in ("sources", "unproven") for one in pattern(name).findall(told)]
    found += pattern("unruly").findall(told) if by_rule else pattern("undoubting").findall(reading.rest)
    return reasons("a source the confidence doesn't have", found)
