"""Lines of JSON: requests, and answers that nothing can break."""

import json
import math

import pytest
from hypothesis import given, strategies

from ..inside import ControlError, control_protocol

LONG = "x" * 70_000


def refusal(text):
    with pytest.raises(ControlError) as error:
        control_protocol.parse(text)
    return error.value


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        (b"", "bad_request", "one JSON object"),
        (b"no", "bad_request", "one JSON object"),
        (b"[1]", "bad_request", "one JSON object"),
        (b"\xff\xfe", "bad_request", "one JSON object"),
        (b"[" * 60_000, "bad_request", "one JSON object"),
        (b'{"v":1,"do":"survey","first":' + b"9" * 5000 + b"}", "bad_request", "one JSON object"),
        (LONG.encode(), "too_large", "65536"),
        (b'{"do":"hello"}', "bad_request", '"v": must be 1'),
        (b'{"v":2,"do":"hello"}', "bad_request", '"v": must be 1'),
        (b'{"v":true,"do":"hello"}', "bad_request", '"v": must be 1'),
        (b'{"v":1}', "bad_request", '"do"'),
        (b'{"v":1,"do":["hello"]}', "bad_request", '"do"'),
        (b'{"v":1,"do":"reboot\\u001b"}', "unknown_command", "shutdown"),
        (b'{"v":1,"do":"hello","id":[1]}', "bad_request", '"id"'),
        (b'{"v":1,"do":"hello","id":1.5}', "bad_request", '"id"'),
        (b'{"v":1,"do":"hello","name":"x"}', "bad_request", "takes no 'name'"),
        (b'{"v":1,"do":"stack"}', "bad_request", '"name"'),
        (b'{"v":1,"do":"stack","name":""}', "bad_request", "empty"),
        (b'{"v":1,"do":"stack","name":7}', "bad_request", "a text"),
        (b'{"v":1,"do":"survey","limit":-1}', "bad_request", "0 or more"),
        (b'{"v":1,"do":"survey","limit":true}', "bad_request", "0 or more"),
        (b'{"v":1,"do":"survey","states":["asleep"]}', "bad_request", "queued"),
        (b'{"v":1,"do":"survey","states":"queued"}', "bad_request", "queued"),
        (b'{"v":1,"do":"survey","states":[[]]}', "bad_request", "queued"),
        (b'{"v":1,"do":"shutdown","timeout":NaN}', "bad_request", "seconds"),
        (b'{"v":1,"do":"shutdown","timeout":-1}', "bad_request", "seconds"),
        (b'{"v":1,"do":"shutdown","drain":"1"}', "bad_request", "seconds"),
        (b'{"v":1,"do":"watch","calls":1}', "bad_request", "true or false"),
    ],
)
def test_what_is_no_request_is_refused_by_a_message_of_one_line(text, code, says):
    error = refusal(text)
    assert error.code == code
    assert says in error.message
    assert error.message.isprintable()


def test_a_refusal_has_the_id_as_far_as_it_was_understood():
    assert refusal(b'{"v":1,"id":7,"do":"fly"}').id == 7
    assert refusal(b'{"v":1,"id":"a","do":"stack"}').id == "a"


def test_what_is_left_out_or_null_has_its_default():
    request = control_protocol.parse(b'{"v":1,"do":"survey","limit":null,"first":3}')
    assert request.arguments == {"matching": "*", "states": (), "first": 3, "limit": 5000}
    assert control_protocol.parse(b'{"v":1,"do":"survey","limit":1000000}').arguments["limit"] == 5000


HOSTILE = ["<script>", "a\nb", "\x1b[2J", "\ud800", "a\udfffb", "\U0001f600", "\u2028\u2029\x85", '"}\n{"v":1', "\0"]


@pytest.mark.parametrize("name", HOSTILE)
def test_whatever_a_name_has_in_it_the_answer_is_one_line_of_json(name):
    text = control_protocol.answer(1, {"name": name, name: [math.inf, -math.inf, math.nan, 1.5]})
    assert text.endswith(b"\n")
    assert text.isascii()
    assert len(text.decode().splitlines()) == 1
    data = json.loads(text, parse_constant=pytest.fail)["data"]
    data["name"].encode()  # has no half of a character
    assert list(data.values())[-1] == [None, None, None, 1.5]
    if name.isprintable() or "\ud800" > max(name):
        assert data["name"] == name


def test_an_answer_that_is_too_long_says_so():
    data = json.loads(control_protocol.answer(1, "x" * (8 << 20)))
    assert (data["id"], data["ok"], data["error"]["code"]) == (1, False, "too_large")


def test_what_is_no_json_breaks_no_answer():
    assert json.loads(control_protocol.answer(1, {"x": object(), "y": {1, 2}}))["data"]["x"] == "<object>"


@given(strategies.binary(max_size=200))
def test_nothing_but_a_refusal_comes_of_garbage(text):
    try:
        control_protocol.parse(text)
    except ControlError as error:
        json.loads(control_protocol.failure(error))
