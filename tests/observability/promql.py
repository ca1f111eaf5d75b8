"""As much of PromQL as a dashboard needs: an expression is well formed, and which series it asks for."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

RANGED = {"rate", "increase", "deriv"}
FUNCTIONS = {*RANGED, "histogram_quantile", "absent", "time"}
AGGREGATIONS = {"sum", "max", "min", "topk"}
OPERATORS = {"+", "-", "*", "/", ">", "<", ">=", "<=", "==", "!="}

_TOKEN = re.compile(
    r"""\s*(?:(?P<number>\d+(?:\.\d+)?(?:e\d+)?(?![\w.]))|(?P<name>[a-zA-Z_:][\w:]*)|(?P<text>"[^"\\]*")"""
    r"""|(?P<range>\[\d+[smhd]\])|(?P<mark>=~|!~|>=|<=|==|!=|[-+*/<>=(){},]))"""
)


class NotPromQL(ValueError):
    """An expression Prometheus would refuse."""


@dataclass
class Selector:
    """Series asked for."""

    metric: str
    within: str | None
    """The innermost function or aggregation around it."""
    labels: set[str] = field(default_factory=set)
    ranged: bool = False


@dataclass
class Query:
    """What an expression asks for, and the labels that it groups by."""

    selectors: list[Selector] = field(default_factory=list)
    grouped_by: set[str] = field(default_factory=set)


def parse(expression: str) -> Query:
    """Raises NotPromQL."""
    parser = _Parser(expression)
    parser.expression(None)
    if parser.tokens:
        raise NotPromQL(f"{parser.tokens[0]} left over in {expression}")
    return parser.query


class _Parser:
    def __init__(self, expression: str) -> None:
        self.tokens: list[tuple[str, str]] = []
        self.query, position = Query(), 0
        while position < len(expression.rstrip()):
            match = _TOKEN.match(expression, position)
            if match is None:
                raise NotPromQL(f"{expression[position:]!r} in {expression}")
            self.tokens.append((str(match.lastgroup), match[match.lastgroup or 0]))
            position = match.end()

    def expression(self, within: str | None) -> None:
        self.operand(within)
        while self.peek() in OPERATORS:
            self.take()
            self.operand(within)

    def operand(self, within: str | None) -> None:
        kind, text = self.take()
        if text == "(":
            self.expression(within)
            self.expect(")")
        elif kind == "name" and text in AGGREGATIONS:
            self.grouping()
            self.arguments(text)
            self.grouping()
        elif kind == "name" and self.peek() == "(":
            if text not in FUNCTIONS:
                raise NotPromQL(f"no function {text}")
            self.arguments(text)
        elif kind == "name":
            self.selector(text, within)
        elif kind != "number":
            raise NotPromQL(f"{text} where a value should be")

    def selector(self, metric: str, within: str | None) -> None:
        selector = Selector(metric, within)
        if self.peek() == "{":
            self.take()
            while True:
                selector.labels.add(self.expect_kind("name"))
                if self.take()[1] not in ("=", "!=", "=~", "!~"):
                    raise NotPromQL(f"no matcher in {metric}")
                self.expect_kind("text")
                if self.take()[1] == "}":
                    break
        if self.tokens and self.tokens[0][0] == "range":
            self.take()
            selector.ranged = True
        if selector.ranged != (within in RANGED):
            raise NotPromQL(f"{metric}: a range belongs into {RANGED}, and nowhere else")
        self.query.selectors.append(selector)

    def arguments(self, function: str) -> None:
        self.expect("(")
        while self.peek() != ")":
            self.expression(function)
            if self.peek() == ",":
                self.take()
        self.take()

    def grouping(self) -> None:
        if self.peek() == "by":
            self.take()
            self.expect("(")
            while True:
                self.query.grouped_by.add(self.expect_kind("name"))
                if self.take()[1] == ")":
                    break

    def peek(self) -> str | None:
        return self.tokens[0][1] if self.tokens else None

    def take(self) -> tuple[str, str]:
        if not self.tokens:
            raise NotPromQL("ends too early")
        return self.tokens.pop(0)

    def expect(self, text: str) -> None:
        if self.take()[1] != text:
            raise NotPromQL(f"{text} is missing")

    def expect_kind(self, kind: str) -> str:
        found, text = self.take()
        if found != kind:
            raise NotPromQL(f"{text} is no {kind}")
        return text
