"""The one piece of curve arithmetic needed: y from x (SEC 1, 2.3.4)."""

from __future__ import annotations

P = 2**256 - 2**32 - 977


def lift_x(x: int, odd: int) -> int | None:
    """The y of this parity with y**2 = x**3 + 7 mod P, or None where there is none."""
    if x >= P:
        return None
    square = (pow(x, 3, P) + 7) % P
    y = pow(square, (P + 1) // 4, P)
    if y * y % P != square:
        return None
    return y if y & 1 == odd else P - y
