"""JSON-RPC as Bitcoin Core speaks it. Amounts are read as decimals; no float ever touches them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Context, Decimal, Inexact
from typing import Any

from utxoiq.errors import NodeRefused, NodeUnavailable, RpcError
from utxoiq.sources import http
from utxoiq.sources.http import Answer, Http
from utxoiq.sources.node.credentials import Credentials
from utxoiq.units import COIN, MAX_MONEY

WARMING_UP, METHOD_NOT_FOUND, NOT_FOUND, MISC, OUT_OF_RANGE = -28, -32601, -5, -1, -8
"""Core's error codes (rpc/protocol.h)."""


EXACT = Context(prec=60, traps=[Inexact])


class Rpc:
    """Calls to one node."""

    def __init__(self, http: Http, credentials: Credentials) -> None:
        self._http, self._credentials = http, credentials

    @property
    def where(self) -> str:
        return self._http.where

    def call(self, method: str, *params: Any) -> Any:
        """The result. Raises RpcError for what the node answers with an error, NodeUnavailable, NodeRefused."""
        return self._result(method, self._post(method, _request(method, params)))

    def batch(self, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        """The results of several calls, each (method, parameter, …), in one exchange. Raises as `call`, for the first
        that failed."""
        if not calls:
            return []
        requests = [_request(method, params, number) for number, (method, *params) in enumerate(calls)]
        answers = self._post(calls[0][0], requests)
        if not isinstance(answers, list) or len(answers) != len(requests):
            raise NodeUnavailable(f"{self.where}: {calls[0][0]} was not answered as a batch")
        return [self._result(call[0], answer) for call, answer in zip(calls, answers, strict=True)]

    def _post(self, method: str, body: Any) -> Any:
        content = json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        answer = self._http.request("POST", "/", headers=headers | self._credentials.header(), content=content)
        if answer.status == http.UNAUTHORIZED:  # a node writes a new cookie at each start
            fresh = self._credentials.header(anew=True)
            answer = self._http.request("POST", "/", headers=headers | fresh, content=content)
        self._check_status(method, answer)
        try:
            return json.loads(answer.content, parse_float=Decimal)
        except (ValueError, RecursionError) as error:
            if answer.status == http.NOT_FOUND:
                raise NodeRefused(f"{self.where}: speaks no JSON-RPC; is this the node's RPC address?") from error
            raise NodeUnavailable(
                f"{self.where}: {method} was answered with HTTP {answer.status} and no JSON"
            ) from error

    def _check_status(self, method: str, answer: Answer) -> None:
        if answer.status == http.UNAUTHORIZED:
            raise NodeRefused(f"{self.where}: refuses {self._credentials.source}")
        if answer.status == http.FORBIDDEN:
            raise NodeRefused(f"{self.where}: does not allow us {method} (rpcwhitelist, rpcallowip)")
        if answer.status == http.UNAVAILABLE:
            raise NodeUnavailable(f"{self.where}: too busy ({answer.text.strip()[:80]})")

    def _result(self, method: str, answer: Any) -> Any:
        if not isinstance(answer, dict):
            raise NodeUnavailable(f"{self.where}: {method} was answered with something else than a JSON-RPC reply")
        error = answer.get("error")
        if error is None:
            return answer.get("result")
        if not isinstance(error, dict) or type(error.get("code")) is not int:
            raise NodeUnavailable(f"{self.where}: {method} was answered with an error that says nothing")
        code, lines = error["code"], str(error.get("message", "")).splitlines()
        message = lines[0][:200] if lines else ""
        if code == WARMING_UP:
            raise NodeUnavailable(f"{self.where}: it is starting: {message}")
        raise RpcError(self.where, method, code, message)


def _request(method: str, params: Sequence[Any], number: int = 0) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": list(params)}


def satoshis(amount: Decimal | int) -> int:
    """A BTC amount of the node in sat, exactly. Raises ValueError for what is no amount of bitcoin, TypeError."""
    if isinstance(amount, bool) or not 0 <= amount <= MAX_MONEY // COIN:
        raise ValueError(f"{amount!s:.40} BTC is no amount")
    exact = EXACT.multiply(Decimal(amount), COIN)
    if exact != int(exact):
        raise ValueError(f"{amount!s:.40} BTC is no whole number of satoshis")
    return int(exact)
