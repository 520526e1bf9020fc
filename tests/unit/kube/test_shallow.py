"""JSON that is nested as deep as the API server takes it."""

import json

import msgspec
import pytest
from understudy_kube import shallow

ANY: msgspec.json.Decoder[object] = msgspec.json.Decoder()


def nested(levels: int, inner: str = "1") -> str:
    """Objects and arrays by turns."""
    ways = [('{"a":', "}"), ("[", "]")]
    opens, closes = zip(*(ways[level % 2] for level in range(levels)), strict=True)
    return "".join(opens) + inner + "".join(reversed(closes))


@pytest.mark.parametrize("levels", [1, 50, 100])
def test_what_is_not_too_deep_is_left_as_it_is(levels: int) -> None:
    text = nested(levels).encode()
    assert shallow.cut(text, 100) is text


@pytest.mark.parametrize("levels", [101, 5_000, 10_000, 300_000])
def test_what_is_too_deep_is_null(levels: int) -> None:
    assert shallow.cut(nested(levels).encode(), 100).decode() == nested(100, "null")


def test_brackets_in_strings_mean_nothing() -> None:
    text = json.dumps({"a": ["[[[{{{", '\\"[{', {"[[": "]]"}], "b": 1}).encode()
    assert shallow.cut(text, 3) is text
    assert json.loads(shallow.cut(text, 2)) == {"a": ["[[[{{{", '\\"[{', None], "b": 1}


def test_what_stands_beside_is_kept() -> None:
    text = f'{{"x":{nested(10_000)},"y":[1,{nested(10_000)},3],"z":{{"k":"v"}}}}'.encode()
    found = shallow.decode(text, ANY)
    assert isinstance(found, dict)
    assert (found["y"][0], found["y"][2], found["z"]) == (1, 3, {"k": "v"})


class Named(msgspec.Struct):
    name: str


def test_a_field_that_nobody_reads_keeps_none_from_being_read() -> None:
    text = f'{{"fields":{nested(10_000)},"name":"n"}}'.encode()
    assert shallow.decode(text, msgspec.json.Decoder(Named)).name == "n"


@pytest.mark.parametrize("text", [b"", b"{", b'{"a', b'"\xff"', b"\xff", b"]]]]", b"[" * 100_000, b'"\\', b"null"])
def test_what_is_no_json_is_refused_by_the_decoder(text: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        shallow.decode(text, msgspec.json.Decoder(Named))
