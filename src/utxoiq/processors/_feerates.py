"""The loops of the feerate forecast, compiled. What they compute and why: feerates.py."""

from __future__ import annotations

import numpy as np
from numba import types as nt

from utxoiq.chain._jit import I64, helper, kernel

F64, TABLE = nt.float64[::1], nt.float64[:, ::1]
FEATURES, WITHOUT_CLOCK = 8, 5
WARM = 36  # rows whose median starts the level; no case is made from them
LEVEL_STEP = 0.001875  # of the fourth root a block: 0.75 % of the feerate
FAST, SLOW = 1.0, 6.0  # half-lives in blocks
FORGET = 0.9995  # of a case's weight, with each later case
NEAR = 0.2  # misses smaller than this, 20 % of the feerate, count by their square
SOLVE = 24  # rows between two fits
LEAST_ROOT = 0.1  # of the level's root: one ten-thousandth of the feerate
SCALE_FLOOR = 0.05  # of the residuals' scale, in logarithms


@helper
def _starting_root(root):
    """The median of the first WARM known ones; 0 where none is known."""
    first = np.empty(WARM)
    known = 0
    for row in range(root.size):
        if root[row] > 0 and known < WARM:
            first[known] = root[row]
            known += 1
    return np.median(first[:known]) if known else 0.0


@helper
def _solve(gram, right, ridge, size, beta):
    """beta of (gram + ridge I) beta = right, by elimination: symmetric, so the upper half will do."""
    work = gram.copy()
    for c in range(size):
        work[c, c] += ridge
        beta[c] = right[c]
    for i in range(size):
        for j in range(i + 1, size):
            factor = work[i, j] / work[i, i]
            for c in range(j, size):
                work[j, c] -= factor * work[i, c]
            beta[j] -= factor * beta[i]
    for i in range(size - 1, -1, -1):
        for c in range(i + 1, size):
            beta[i] -= work[i, c] * beta[c]
        beta[i] /= work[i, i]


@helper
def _fit(features, row, beta):
    total = 0.0
    for c in range(FEATURES):
        total += features[row, c] * beta[c]
    return total


@kernel(nt.void(F64, F64, F64, F64, TABLE))
def look(position, root, mempool, levels, features):
    """Of each row the level, and its features but for the clock's, from that row and those before.

    position (n,) in blocks, increasing; root and mempool (n,): fourth roots, 0 where unknown. Fills levels (n,), all 0
    where nothing is known, and features (n, FEATURES), its first five.
    """
    level = last = fast = slow = _starting_root(root)
    seen = position[0]
    usual_gap = fast_share = slow_share = 0.0
    for row in range(root.size if level > 0 else 0):
        if root[row] > 0:
            gap = position[row] - seen
            seen = position[row]
            last = root[row]
            if gap != usual_gap:
                usual_gap = gap
                fast_share = 1 - 0.5 ** (gap / FAST)
                slow_share = 1 - 0.5 ** (gap / SLOW)
            fast += (last - fast) * fast_share
            slow += (last - slow) * slow_share
            step = level * min(LEVEL_STEP * gap, 0.5)
            level = min(last, level + step) if last > level else max(last, level - step)
        levels[row] = level
        per_level = 4 / level
        features[row, 0] = last * per_level - 4
        features[row, 1] = fast * per_level - 4
        features[row, 2] = slow * per_level - 4
        features[row, 3] = (mempool[row] if mempool[row] > 0 else last) * per_level - 4
        features[row, 4] = 1.0


@kernel(F64(I64, F64, I64, nt.int64, nt.boolean, nt.float64, F64, F64, TABLE))
def point_roots(time, root, target, ahead, clock, prior, day, levels, features):
    """Fourth roots of the forecast made at each row, from that row and those before; NaN in the first WARM rows.

    time (n,) seconds; root (n,) as in `look`, levels and features as it fills them (the clock's are filled here);
    target (n,) the row that shows what the forecast of this row was about, or less than 0, never decreasing otherwise;
    ahead: seconds to the horizon; clock: whether hour and weekday are features; prior: cases that say there is no
    deviation from the level; day: cos, then sin, of the day's 144 steps of ten minutes.
    """
    n = root.size
    size = FEATURES if clock else WITHOUT_CLOCK
    roots = np.full(n, np.nan)
    gram = np.zeros((FEATURES, FEATURES))
    right = np.zeros(FEATURES)
    beta = np.zeros(FEATURES)
    cases = weights = 0.0
    youth = 1.0
    if levels[0] == 0.0:
        return roots
    settled = 0
    for row in range(n):
        while settled < row and target[settled] <= row:
            if target[settled] >= 0 and settled >= WARM:
                z = 4 * (root[target[settled]] / levels[settled] - 1)
                youth /= FORGET
                fit = _fit(features, settled, beta)
                square = levels[settled] * levels[settled]
                slope = square * square * max(1 + fit / 4, LEAST_ROOT) ** 3  # of the feerate over the deviation
                weight = youth * slope / max(abs(z - fit), NEAR)
                for i in range(size):
                    share = weight * features[settled, i]
                    for j in range(FEATURES):  # a fixed number becomes vector instructions
                        gram[i, j] += share * features[settled, j]
                    right[i] += share * z
                cases += youth
                weights += weight
            settled += 1
        if cases > 0 and (row % SOLVE == 0 or row == n - 1):
            _solve(gram, right, prior * youth * weights / cases, size, beta)
        if clock:
            due = time[row] + ahead
            features[row, 5] = day[due % 86400 // 600]
            features[row, 6] = day[144 + due % 86400 // 600]
            features[row, 7] = 1.0 if due // 86400 % 7 == 3 else 0.0  # 1 January 1970 was a Thursday
        if row >= WARM:
            roots[row] = levels[row] * max(1 + _fit(features, row, beta) / 4, LEAST_ROOT)
    return roots


@kernel(nt.Tuple((F64, nt.float64))(F64, F64, I64, nt.float64))
def scaled_residuals(points, rates, target, forget):
    """How far forecasts were off, each by the scale of its time; and the scale now.

    points, rates (n,): natural logarithms of what was forecast at each row and of what each row showed; target as in
    `point_roots`; forget: the share of its weight that a case loses with each later one, 0 for a scale of 1.
    """
    n = points.size
    off = np.empty(n)
    scales = np.empty(n)
    known = settled = 0
    size = weight = 0.0
    for row in range(n):
        while settled < row and target[settled] <= row:
            if target[settled] >= 0 and points[settled] == points[settled]:
                residual = rates[target[settled]] - points[settled]
                if scales[settled] > 0:
                    off[known] = residual / scales[settled]
                    known += 1
                size = (1 - forget) * size + forget * abs(residual)
                weight = (1 - forget) * weight + forget
            settled += 1
        scales[row] = 1.0 if forget == 0 else (size / weight + SCALE_FLOOR if weight > 0 else 0.0)
    return off[:known], scales[n - 1]
