"""A request's body is understood, honoured or refused: one line, the field, and never a crash."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from racro.serving.chat import Inquiry, parse
from racro.serving.errors import ApiError, public
from racro.serving.limits import Limits
from tests.support.examples import examples

PIXEL = "data:image/png;base64,AA=="
LIMITS = Limits(images=2, question=40)


def image(url: str = PIXEL) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, "detail": "high"}}


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def user(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


def asked(*messages: dict[str, Any], **fields: Any) -> Inquiry:
    body = {"model": "racro", "messages": list(messages or (user(image(), text("How many?")),)), **fields}
    return parse(json.dumps(body).encode(), LIMITS)


def test_fields_are_honoured() -> None:
    made = asked(max_completion_tokens=7, max_tokens=9, temperature=0, top_p=0.5, seed=3, stream=True)
    assert made == Inquiry("racro", "How many?", (PIXEL,), 7, 0.0, 0.5, 3, True)
    assert asked(stream=True, stream_options={"include_usage": True}).include_usage
    assert asked(n=1, user="me", stop=None, presence_penalty=0, response_format={"type": "text"}).max_tokens is None


def test_the_last_question_is_asked_about_the_last_images() -> None:
    conversation = (
        {"role": "system", "content": "You are helpful."},
        user(image("https://a/1.png"), text("And this?")),
        {"role": "assistant", "content": "Three."},
        user(text("And"), text("now?")),
    )
    made = asked(*conversation)
    assert (made.question, made.images) == ("And\nnow?", ("https://a/1.png",))
    assert asked(user(text("Why?"), image())).question == "Why?", "text before the image is the same question"


def test_places_of_images_are_kept_where_they_say_something() -> None:
    made = asked(user(text("Is "), image("data:1"), text(" above "), image("data:2"), text("?")))
    assert (made.question, made.images) == ("Is <image> above <image>?", ("data:1", "data:2"))


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({"n": 2}, "n", "n is not supported here; leave it out, or give 1"),
        ({"tools": [{"type": "function"}]}, "tools", "tools is not supported"),
        ({"logprobs": True}, "logprobs", "give false"),
        ({"stop": "x"}, "stop", "stop is not supported"),
        ({"colour": "red"}, "colour", "unknown field 'colour'"),
        ({"temperature": 3}, "temperature", "less than or equal to 2"),
        ({"temperature": "hot"}, "temperature", "valid number"),
        ({"max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
        ({"max_tokens": True}, "max_tokens", "valid integer"),
        ({"seed": 1.5}, "seed", "valid integer"),
        ({"messages": []}, "messages", "at least 1"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "messages", "no message with the role user"),
        ({"messages": [user(text("x"))]}, "messages", "no image; add a part"),
        ({"messages": [user(image())]}, "messages", "asks nothing"),
        ({"messages": [user(image(), image(), image(), text("x"))]}, "messages", "3 images; at most 2"),
        ({"messages": [user(image(), text("x" * 41))]}, "messages", "41 characters; at most 40"),
        ({"messages": [user({"type": "audio"})]}, "messages.0.content.0", "does not match"),
        ({"messages": [user({"type": "image_url"})]}, "messages.0.content.0.image_url", "Field required"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages.0.role", "Input should be"),
    ],
)
def test_what_cannot_be_honoured_is_refused(fields: dict[str, Any], param: str, said: str) -> None:
    with pytest.raises(ApiError) as refused:
        asked(**fields)
    error = refused.value.body["error"]
    assert refused.value.status == 400 and error["type"] == "invalid_request_error"
    assert error["param"] == param and said in error["message"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=4,
)
FIELDS = ("model", "messages", "n", "stop", "stream_options", "temperature", "max_tokens", "tools", "metadata", "x")


@settings(max_examples=examples(50))
@given(st.binary(max_size=40) | JSON.map(json.dumps).map(str.encode))
def test_any_body_is_a_question_or_an_error(body: bytes) -> None:
    with pytest.raises(ApiError) as refused:
        parse(body, LIMITS)
    assert refused.value.status == 400
    json.dumps(refused.value.body)


@settings(max_examples=examples(100))
@given(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4))
def test_any_field_is_honoured_or_refused(fields: dict[str, Any]) -> None:
    try:
        asked(**{"messages": [user(image(), text("x"))], **fields})
    except ApiError as error:
        assert error.status == 400 and "\n" not in str(error)


def test_deep_and_odd_json_is_no_crash() -> None:
    for body in (b"[" * 100_000, b'{"a": NaN}', b"\xff\xfe", b"", b"null", b'{"messages": 1e999}'):
        with pytest.raises(ApiError):
            parse(body, LIMITS)


@given(st.lists(st.text("abcXYZ019_-.", min_size=1, max_size=8), min_size=2, max_size=5))
def test_no_path_gets_out(names: list[str]) -> None:
    for shown in (f"/{'/'.join(names)}", f"s3://{'/'.join(names)}", f"http://{names[0]}:8000/v1"):
        assert shown not in public(f"the file {shown} is broken\nand more")


def test_arithmetic_is_no_path() -> None:
    assert public("5 km/h is 1/2 and/or \\frac{1}{2}") == "5 km/h is 1/2 and/or \\frac{1}{2}"
