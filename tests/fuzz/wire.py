"""One request as it goes over the wire, and how a body is written in odd ways."""

import base64
import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from tests.fuzz import values

_JSON = "application/json"
_TYPES = (
    *("Application/JSON", "APPLICATION/JSON", f"{_JSON}; charset=utf-8", f"{_JSON};charset=UTF-16"),
    *(
        f"{_JSON} ; a=b",
        f"{_JSON};",
        "text/json",
        "application/vnd.a+json",
        "text/plain",
    ),
    *(f"{_JSON}, {_JSON}", ""),
)
_PATHS = ("{}/", "{}?a=b", "{}?control=1", "/{}", "{}//", "{}/.")
_CODECS = (
    "utf-8",
    "utf-8",
    "utf-8-sig",
    "utf-16",
    "utf-16-le",
    "utf-16-be",
    "utf-32-le",
    "latin-1",
)


_DEEP = re.compile(rb'\[{200}|(\{"[a-z]*":){200}')


@dataclass(frozen=True)
class Case:
    """One request.

    Attributes:
        path: Path and query.
        content: The body.
        content_type: As sent; none is sent if empty.

    """

    path: str
    content: bytes
    content_type: str = _JSON

    @property
    def body(self) -> dict[str, Any] | None:
        """The body, read by a JSON parser; None if it is no object."""
        try:
            body = json.loads(self.content)
        except (ValueError, RecursionError):
            return None
        return body if isinstance(body, dict) else None

    def controlled(self, profiles: Sequence[str]) -> bool:
        """True if it has a control, or a model suffix that asks for one."""
        body = self.body
        if body is None:
            return False
        suffix = str(body.get("model")).rpartition(":")[2]
        return body.get("control") is not None or suffix in profiles

    def without_control(self, models: Sequence[str], profiles: Sequence[str]) -> Self:
        """The same request without its control."""
        body = self.body
        if body is None or _DEEP.search(self.content):
            # Nesting counts: what no parser takes with a control, none may take without.
            return replace(self, content=self.content.replace(b'"control"', b'"contro1"'))
        body.pop("control", None)
        name, _, suffix = str(body.get("model")).rpartition(":")
        if name in models and suffix in profiles:
            body["model"] = name
        return replace(self, content=json.dumps(body).encode())

    def with_body(self, body: Any) -> Self:
        """The same request with another body, written plainly."""
        return replace(self, content=json.dumps(body).encode())

    @property
    def headers(self) -> dict[str, str]:
        return {"content-type": self.content_type} if self.content_type else {}

    def curl(self, url: str) -> str:
        """A shell command that asks it."""
        header = shlex.quote(f"Content-Type: {self.content_type}")
        target = shlex.quote(url + self.path)
        if len(self.content) < 20_000 and self.content.isascii() and b"\0" not in self.content:
            return (
                f"curl -s {target} -H {header} --data-binary {shlex.quote(self.content.decode())}"
            )
        encoded = base64.b64encode(self.content).decode()
        return f"echo {encoded} | base64 -d | curl -s {target} -H {header} --data-binary @-"

    def as_json(self) -> dict[str, str]:
        """The form in which a file keeps it."""
        return {
            "path": self.path,
            "content_type": self.content_type,
            "content": base64.b64encode(self.content).decode(),
            "readable": self.content[:2000].decode(errors="replace"),
        }

    @classmethod
    def of_json(cls, kept: dict[str, str]) -> Self:
        return cls(kept["path"], base64.b64decode(kept["content"]), kept["content_type"])


def plainly(body: Any) -> bytes:
    """A body as most clients write it."""
    return values.spelled_out(json.dumps(body)).encode()


def requests(endpoint: str, body: dict[str, Any]) -> SearchStrategy[Case]:
    """Ways of sending a body: mostly the plain one."""
    plain = st.just(Case(endpoint, plainly(body)))
    odd = st.one_of(
        st.builds(
            Case, st.just(endpoint), st.just(plainly(body)), content_type=st.sampled_from(_TYPES)
        ),
        st.sampled_from(_PATHS).map(lambda form: Case(form.format(endpoint), plainly(body))),
        _written(body).map(lambda content: Case(endpoint, content)),
        _written(body).map(lambda content: Case(endpoint, content)),
    )
    return st.integers(1, 6).flatmap(lambda drawn: odd if drawn == 6 else plain)


@st.composite
def _written(draw: DrawFn, body: dict[str, Any]) -> bytes:
    """A body in an odd encoding."""
    way = draw(st.sampled_from(("codec", "escaped", "twice", "spaced", "cut", "bytes")))
    text = values.spelled_out(json.dumps(body))
    match way:
        case "codec":
            ascii_only = draw(st.booleans())
            text = values.spelled_out(json.dumps(body, ensure_ascii=ascii_only))
            return _encoded(text, draw(st.sampled_from(_CODECS)))
        case "escaped":
            for key in draw(st.lists(st.sampled_from(sorted(body)), max_size=3)):
                text = text.replace(f'"{_inside(key)}":', f'"{_escaped(key)}":', 1)
            return text.encode()
        case "twice":
            key = draw(st.sampled_from(("control", "n", "stream", "model", "max_tokens")))
            pair = f'"{key}": {values.spelled_out(json.dumps(draw(_second())))}'
            first = draw(st.booleans())
            return (f"{{{pair}, {text[1:]}" if first else f"{text[:-1]}, {pair}}}").encode()
        case "spaced":
            space = draw(st.sampled_from((" ", "\n", "\t\r\n", "\v", "\u00a0", "\ufeff")))
            return (space + text + space).encode()
        case "cut":
            return text.encode()[: draw(st.integers(0, len(text)))]
        case _:
            return draw(st.binary(max_size=40)) + text.encode()


def _second() -> SearchStrategy[Any]:
    return st.one_of(st.none(), st.just({}), st.just({"monitor": {}}), values.anything())


def _encoded(text: str, codec: str) -> bytes:
    errors = "replace" if codec == "latin-1" else "surrogatepass"
    return text.encode(codec, errors)


def _inside(key: str) -> str:
    return json.dumps(key)[1:-1]


def _escaped(key: str) -> str:
    return "".join(f"\\u{ord(letter):04X}" for letter in key if ord(letter) < 2**16)
