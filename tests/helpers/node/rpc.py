"""JSON-RPC as Bitcoin Core speaks it: versions 1 and 2, batches, notifications, named arguments, and the errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from helpers.node.http import Response
from helpers.node.interface import RpcError, read_json
from helpers.node.jsontext import write
from helpers.node.state import NodeState

JSON = ("Content-Type", "application/json")
MISC, TYPE_ERROR, NOT_FOUND, BAD_PARAMETER, VERIFY, REJECTED, IN_CHAIN, WARMING_UP = -1, -3, -5, -8, -25, -26, -27, -28
INVALID_REQUEST, UNKNOWN_METHOD, PARSE_ERROR = -32600, -32601, -32700
NO_ID = object()
"""The request has no `id`."""


@dataclass(frozen=True)
class Parameter:
    """One argument: its names, its JSON type ("any" is not checked here), and whether it must be there."""

    names: tuple[str, ...]
    kind: str
    required: bool


@dataclass(frozen=True)
class Method:
    """A method of the table."""

    name: str
    parameters: tuple[Parameter, ...]
    call: Callable[..., Any]

    def help(self) -> str:
        """What the node says to a wrong number of arguments begins like this."""
        shown = [(p.required, f'"{p.names[0]}"' if p.kind == "string" else p.names[0]) for p in self.parameters]
        words = [self.name, *(word for required, word in shown if required)]
        optional = [word for required, word in shown if not required]
        usage = " ".join([*words, "(", *optional, ")"] if optional else words)
        return f"{usage}\n\n(the double knows no more)\n"


METHODS: dict[str, Method] = {}


def method(signature: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Put a function into the table: `name argument:type optional|alias?:type`."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        name, *words = signature.split()
        parameters = []
        for word in words:
            names, kind = word.split(":")
            parameters.append(Parameter(tuple(names.rstrip("?").split("|")), kind, not names.endswith("?")))
        METHODS[name] = Method(name, tuple(parameters), function)
        return function

    return register


def json_type(value: Any) -> str:
    """The name UniValue has for a value's type."""
    kinds = ((bool, "bool"), (str, "string"), (list, "array"), (dict, "object"))
    return "null" if value is None else next((name for kind, name in kinds if isinstance(value, kind)), "number")


def execute(state: NodeState, name: str, params: list[Any] | dict[str, Any], *, faults: bool = True) -> Any:
    """Call a method, with or without the faults in its way. Raises RpcError."""
    if faults and state.faults.warming_up is not None:
        raise RpcError(WARMING_UP, state.faults.warming_up)
    found = METHODS.get(name)
    if found is None or (faults and name in state.faults.methods_missing):
        raise RpcError(UNKNOWN_METHOD, "Method not found")
    if isinstance(params, dict):
        params = _positional(found, params)
    required = sum(parameter.required for parameter in found.parameters)
    if not required <= len(params) <= len(found.parameters):
        raise RpcError(MISC, found.help())
    wrong = {
        f"Position {at} ({parameter.names[0]})": _unexpected(value, parameter.kind)
        for at, (parameter, value) in enumerate(zip(found.parameters, params, strict=False), 1)
        if parameter.kind != "any" and json_type(value) != parameter.kind and (value is not None or parameter.required)
    }
    if wrong:
        raise RpcError(TYPE_ERROR, "Wrong type passed:\n" + json.dumps(wrong, indent=4))
    with state.lock:
        return found.call(state, *params)


def _unexpected(value: Any, kind: str) -> str:
    return f"JSON value of type {json_type(value)} is not of expected type {kind}"


def typed(value: Any, kind: str) -> Any:
    """An argument the table doesn't check, checked. Raises RpcError."""
    if json_type(value) != kind:
        raise RpcError(TYPE_ERROR, _unexpected(value, kind))
    return value


def integer(value: Any, bits: int = 32) -> int:
    """A number that must be whole, and small. Raises RpcError."""
    typed(value, "number")
    if not isinstance(value, int) or not -(1 << (bits - 1)) <= value < 1 << (bits - 1):
        raise RpcError(MISC, "JSON integer out of range")
    return value


def _positional(found: Method, named: dict[str, Any]) -> list[Any]:
    left, hole, first_hole, first = dict(named), 0, 0, None
    params: list[Any] = []
    for parameter in found.parameters:
        name = next((name for name in parameter.names if name in left), None)
        if name is None:
            hole += 1
            first_hole = hole if not params else first_hole
            continue
        params += [None] * hole + [left.pop(name)]
        hole, first = 0, first or "|".join(parameter.names)
    given = left.pop("args", None)
    if isinstance(given, list):
        if first is not None and first_hole < len(given):
            raise RpcError(BAD_PARAMETER, f"Parameter {first} specified twice both as positional and named argument")
        params = given + params[len(given) :]
    if left:
        raise RpcError(BAD_PARAMETER, f"Unknown named parameter {next(iter(left))}")
    return params


class Call:
    """One request of a body; a batch uses one for all its entries, as the node does."""

    def __init__(self) -> None:
        self.id: Any = None
        self.version_2 = False
        self.method = ""
        self.params: Any = []

    def parse(self, request: Any) -> None:
        """Take a request in, as far as it is one. Raises RpcError."""
        if not isinstance(request, dict):
            raise RpcError(INVALID_REQUEST, "Invalid Request object")
        self.id, self.version_2 = request.get("id", NO_ID), False
        version = request.get("jsonrpc")
        if version is not None and not isinstance(version, str):
            raise RpcError(INVALID_REQUEST, "jsonrpc field must be a string")
        if version not in (None, "1.0", "2.0"):
            raise RpcError(INVALID_REQUEST, "JSON-RPC version not supported")
        self.version_2 = version == "2.0"
        name, params = request.get("method"), request.get("params")
        if name is None:
            raise RpcError(INVALID_REQUEST, "Missing method")
        if not isinstance(name, str):
            raise RpcError(INVALID_REQUEST, "Method must be a string")
        if params is not None and not isinstance(params, list | dict):
            raise RpcError(INVALID_REQUEST, "Params must be an array or object")
        self.method, self.params = name, [] if params is None else params

    @property
    def is_notification(self) -> bool:
        return self.version_2 and self.id is NO_ID

    def answer(self, result: Any, error: RpcError | None) -> dict[str, Any]:
        """The envelope."""
        shown: dict[str, Any] = {"jsonrpc": "2.0"} if self.version_2 else {}
        failed = None if error is None else {"code": error.code, "message": error.message}
        if not self.version_2:
            shown |= {"result": result, "error": failed}
        else:
            shown |= {"result": result} if failed is None else {"error": failed}
        return shown if self.id is NO_ID else shown | {"id": self.id}

    def run(self, state: NodeState, request: Any) -> dict[str, Any]:
        """Parse and execute; an error is an answer."""
        try:
            self.parse(request)
            state.faults.requests.append(("rpc", self.method))
            return self.answer(execute(state, self.method, self.params), None)
        except RpcError as error:
            return self.answer(None, error)


def respond(state: NodeState, body: bytes) -> Response:
    """What the node answers to the body of a POST."""
    call = Call()
    try:
        request = read_json(body)
        if b"\\u" in body:
            write(request).encode()  # half a character is refused
    except ValueError:
        return _failed(call, RpcError(PARSE_ERROR, "Parse error"))
    allowed = state.faults.whitelist
    if isinstance(request, list):
        if allowed is not None and any(entry.get("method") not in allowed for entry in request):
            return Response(403)
        answers = []
        for entry in request:
            answer = call.run(state, entry)
            if not call.is_notification:
                answers.append(answer)
        return Response(204) if request and not answers else _json(200, answers)
    if not isinstance(request, dict):
        return _failed(call, RpcError(PARSE_ERROR, "Top-level object parse error"))
    return _single(state, call, request)


def _single(state: NodeState, call: Call, request: dict[str, Any]) -> Response:
    try:
        call.parse(request)
    except RpcError as error:
        return _failed(call, error)
    if state.faults.whitelist is not None and call.method not in state.faults.whitelist:
        return Response(403)
    state.faults.requests.append(("rpc", call.method))
    try:
        answer = call.answer(execute(state, call.method, call.params), None)
    except RpcError as error:
        if not call.version_2:
            return _failed(call, error)
        answer = call.answer(None, error)
    return Response(204) if call.is_notification else _json(200, answer)


def _failed(call: Call, error: RpcError) -> Response:
    status = {INVALID_REQUEST: 400, UNKNOWN_METHOD: 404}.get(error.code, 500)
    return _json(status, call.answer(None, error))


def _json(status: int, value: Any) -> Response:
    return Response(status, (write(value) + "\n").encode(), [JSON])
