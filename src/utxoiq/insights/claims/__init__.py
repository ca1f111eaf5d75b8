"""What prose claims, held against what its signal shows. Each check tells why a text must not be published."""

from __future__ import annotations

from utxoiq.insights.claims.extent import attribution, calibration, certainty, completeness, denials, doings, sources
from utxoiq.insights.claims.flowing import flows, givers_and_takers, levels, opposite, sides
from utxoiq.insights.claims.measures import (
    figures,
    holdings,
    order,
    points,
    roles,
    units,
    usual_and_most,
    usual_as_measured,
    windows,
)
from utxoiq.insights.claims.tense import tense
from utxoiq.insights.claims.wording import words

OF_ANY = (figures, units, usual_as_measured, usual_and_most, windows, words, certainty, completeness, denials)
"""Checks of every part of a text."""
OF_SIGNAL = (
    attribution,
    levels,
    points,
    roles,
    holdings,
    flows,
    sides,
    givers_and_takers,
    opposite,
    order,
    doings,
    tense,
)
"""Of the parts that tell what happened."""
OF_CONFIDENCE = (calibration, sources)
"""Of the part that tells how sure that is."""
