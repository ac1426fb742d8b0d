"""Pure: what goes over the control socket: lines of JSON, each a request or an answer."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from .._core.values import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = [
    "COMMANDS",
    "LONGEST_ANSWER",
    "LONGEST_REQUEST",
    "VERSION",
    "WRITING",
    "ControlError",
    "Request",
    "answer",
    "failure",
    "line",
    "parse",
]

VERSION = 1

LONGEST_REQUEST = 64 * 1024
"""Bytes of a request, its line break not counted."""

LONGEST_ANSWER = 8 * 1024 * 1024
"""Bytes of an answer."""

MOST_ROWS = 5000
"""Workers in one survey."""

MOST_STACKS = 500
"""Stacks in one answer."""

LONGEST_TEXT = 2000
"""Characters of a name, a pattern or a reason."""

HALVES = re.compile("[\ud800-\udfff]")
"""Halves of characters, which no encoding takes."""

ID_SIZE = 200
"""Characters of an id that is a text."""


class ControlError(Exception):
    """Why a request is not carried out.

    Attributes:
        code: For programs: one of those of the protocol; or, in a client, "unreachable" or "no_answer".
        message: For people.
        id: Of the request, as far as it was understood.
        more: What else there is to say, for programs.
    """

    def __init__(self, code: str, message: str, *, of: Any = None, more: Mapping[str, Any] | None = None) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code
        self.message = message
        self.id = of
        self.more = dict(more or {})


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks.

    Attributes:
        id: What the client calls it; each answer has that.
        do: The command.
        arguments: All that the command has; those that the client has left out have their defaults.
    """

    id: int | str | None
    do: str
    arguments: dict[str, Any]


# ------------------------------------------------------------------------------------------------ arguments


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > LONGEST_TEXT:
        raise ValueError(f"must be a text of at most {LONGEST_TEXT} characters")
    return value


def _name(value: object) -> str:
    if not _text(value):
        raise ValueError("must not be empty")
    return _text(value)


def _reason(value: object) -> str:
    return printable(_text(value))


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")  # noqa: TRY004  # one class for whatever is wrong
    return value


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 53:
        raise ValueError("must be an integer, 0 or more")
    return value


def _at_most(most: int) -> Callable[[object], int]:
    return lambda value: min(_count(value), most)


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise ValueError("must be a number of seconds, 0 or more")
    return float(value)


STATES = ("queued", "starting", "running", "stopping", "backing_off", "ended")


def _states(value: object) -> tuple[str, ...]:
    states = cast("list[Any]", value) if isinstance(value, list) else [None]  # type: ignore[redundant-cast]
    if not all(state in STATES for state in states):
        raise ValueError(f"must be a list of these: {', '.join(STATES)}")
    return tuple(map(str, states))


class _Required:
    """Stands where there is no default."""


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a command.

    Attributes:
        check: Returns what was given; raises a ValueError that says what it must be.
        default: Its value where it is left out, or null.
    """

    check: Callable[[object], Any]
    default: Any = _Required


MATCHING = Argument(_text, "*")

COMMANDS: dict[str, dict[str, Argument]] = {
    "hello": {},
    "survey": {
        "matching": MATCHING,
        "states": Argument(_states, ()),
        "first": Argument(_count, 0),
        "limit": Argument(_at_most(MOST_ROWS), MOST_ROWS),
    },
    "stack": {"name": Argument(_name)},
    "stacks": {"matching": MATCHING, "limit": Argument(_at_most(MOST_STACKS), 100)},
    "incidents": {},
    "watch": {"matching": MATCHING, "calls": Argument(_flag, True)},
    "stop": {"name": Argument(_name), "reason": Argument(_reason, "")},
    "restart": {"name": Argument(_name)},
    "shutdown": {
        "timeout": Argument(_seconds, None),
        "drain": Argument(_seconds, None),
        "reason": Argument(_reason, ""),
    },
}
"""The commands, and what each takes."""

WRITING = frozenset({"stop", "restart", "shutdown"})
"""The commands that change something."""


# ------------------------------------------------------------------------------------------------ requests


def parse(text: bytes) -> Request:
    """Returns the request of one line.

    Raises:
        ControlError: It is none: `bad_request`, `unknown_command` or `too_large`.
    """
    if len(text) > LONGEST_REQUEST:
        raise ControlError("too_large", f"a request has at most {LONGEST_REQUEST} bytes")
    try:
        data = json.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise ControlError("bad_request", f"each line must be one JSON object: {error}") from None
    if not isinstance(data, dict):
        raise ControlError("bad_request", "each line must be one JSON object")
    given = cast("dict[str, Any]", data)
    number = _id(given.pop("id", None))
    if given.get("v") is not True and given.pop("v", None) == VERSION:
        return _request(number, given)
    raise ControlError("bad_request", f'"v": must be {VERSION}, the version of the protocol', of=number)


def _id(value: object) -> int | str | None:
    is_number = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63
    if value is None or is_number or (isinstance(value, str) and len(value) <= ID_SIZE):
        return value  # type: ignore[return-value]
    raise ControlError("bad_request", f'"id": must be an integer, a text of at most {ID_SIZE} characters, or null')


def _request(number: int | str | None, given: dict[str, Any]) -> Request:
    do = given.pop("do", None)
    if not isinstance(do, str):
        raise ControlError("bad_request", '"do": must be the name of a command', of=number)
    known = COMMANDS.get(do)
    if known is None:
        raise ControlError(
            "unknown_command", f'"do": {_shown(do)} is no command; these are: {", ".join(COMMANDS)}', of=number
        )
    for name in given:
        if name not in known:
            takes = ", ".join(known) or "nothing"
            raise ControlError("bad_request", f"{do} takes no {_shown(name)}; it takes {takes}", of=number)
    return Request(number, do, {name: _checked(number, name, of, given.get(name)) for name, of in known.items()})


def _checked(number: int | str | None, name: str, argument: Argument, value: object) -> Any:
    if value is None and argument.default is not _Required:
        return argument.default
    try:
        return argument.check(value)
    except ValueError as error:
        raise ControlError("bad_request", f'"{name}": {error}', of=number) from None


def _shown(text: str) -> str:
    return printable(repr(text[:50]))


# ------------------------------------------------------------------------------------------------ answers


def answer(number: int | str | None, data: Any) -> bytes:
    """Returns the line that answers a request; where it is too long, one that says so."""
    made = line(number, ok=True, data=data)
    if len(made) <= LONGEST_ANSWER:
        return made
    message = f"the answer has {len(made)} bytes, and may have {LONGEST_ANSWER}: ask for fewer, by matching or limit"
    return failure(ControlError("too_large", message, of=number))


def failure(error: ControlError) -> bytes:
    """Returns the line that says why a request is not carried out."""
    return line(error.id, ok=False, error={"code": error.code, "message": error.message, **error.more})


def line(number: int | str | None, **more: Any) -> bytes:
    """Returns one line of ASCII; whatever names and stacks have in them, it is valid JSON."""
    thing = {"v": VERSION, "id": number, **more}
    try:
        text = _dump(thing)
    except ValueError:  # an infinite number
        text = _dump(_plain(thing))
    if "\\ud" in text:  # half of a character, perhaps
        text = _dump(_plain(thing))
    return text.encode("ascii") + b"\n"


def _dump(thing: Any) -> str:
    return json.dumps(thing, allow_nan=False, separators=(",", ":"), default=_no_json)


def _no_json(thing: object) -> str:
    return f"<{type(thing).__name__}>"


def _plain(thing: Any) -> Any:
    """Returns the same, with null for what is no finite number, and the escape for half a character."""
    if isinstance(thing, str):
        return HALVES.sub(lambda found: f"\\u{ord(found[0]):04x}", thing)
    if isinstance(thing, float):
        return thing if math.isfinite(thing) else None
    if isinstance(thing, dict):
        items = cast("dict[Any, Any]", thing).items()  # type: ignore[redundant-cast]
        return {_plain(key): _plain(value) for key, value in items}
    if isinstance(thing, list | tuple):
        return [_plain(item) for item in cast("Sequence[Any]", thing)]
    return thing
