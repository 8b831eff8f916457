"""The page at `/`."""

import httpx
import pytest
from fastapi import FastAPI

from steersman.api import root
from steersman.capabilities import Methods
from steersman.keys.ring import Keys
from steersman.profiles import Profile
from tests.unit.servers import planner

pytestmark = pytest.mark.anyio

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
SHOUT = Profile(description="<script>alert(1)</script>", control={})


def client(
    *api_keys: str, profiles: dict[str, Profile] | None = None, docs: bool = True
) -> httpx.AsyncClient:
    plan = planner(
        profiles=profiles, methods=Methods(monitor=("entropy",), search=("first_finish",))
    )
    app = FastAPI() if docs else FastAPI(docs_url=None, openapi_url=None)
    app.include_router(root.router(plan, Keys(api_keys)))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here")


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (BROWSER, "text/html"),
        ("text/html", "text/html"),
        ("text/html, */*", "text/html"),
        ("text/*", "text/html"),
        ("TEXT/HTML;Q=0.5", "text/html"),
        ("*/*", "application/json"),
        ("", "application/json"),
        ("application/json", "application/json"),
        ("application/json, text/html;q=0.9", "application/json"),
        ("text/html;q=0, */*", "application/json"),
        ("text/html;q=none, */*", "application/json"),
        ("image/png", "application/json"),
    ],
)
async def test_browsers_get_a_page_and_programs_json(accept: str, kind: str) -> None:
    async with client() as http:
        answer = await http.get("/", headers={"accept": accept})
    assert answer.status_code == 200
    assert answer.headers["content-type"].partition(";")[0] == kind


async def test_what_the_server_says_of_itself() -> None:
    async with client(profiles={"loud": SHOUT}) as http:
        answer = (await http.get("/")).json()
    assert answer["models"] == ["tiny", "org/tiny:v2"]
    assert answer["thinks"] is True
    assert answer["controls"] == {"monitor": ["entropy"], "search": ["first_finish"]}
    assert answer["profiles"] == {"loud": SHOUT.description}
    assert answer["links"]["capabilities"] == "/v1/control/capabilities"
    assert answer["links"]["docs"] == "/docs"


async def test_the_page_is_escaped_and_asks_nobody_else() -> None:
    async with client(profiles={"loud": SHOUT}) as http:
        answer = await http.get("/", headers={"accept": BROWSER, "host": "a'<b>"})
    assert "<script>" not in answer.text
    assert "&lt;script&gt;" in answer.text
    assert "a'<b>" not in answer.text
    assert 'src="' not in answer.text
    assert "<code>tiny:loud</code>" in answer.text
    assert '<a href="/v1/models">' in answer.text
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


@pytest.mark.parametrize("accept", [BROWSER, "*/*"])
@pytest.mark.parametrize(
    ("authorization", "known"),
    [
        (None, False),
        ("Bearer wrong", False),
        ("Bearer ", False),
        ("Basic key", False),
        ("Bearer key", True),
        ("bearer other", True),
    ],
)
async def test_without_the_key_only_that_a_server_is_here(
    accept: str, authorization: str | None, known: bool
) -> None:
    headers = {"accept": accept} | ({"authorization": authorization} if authorization else {})
    async with client("key", "other") as http:
        answer = await http.get("/", headers=headers)
    assert answer.status_code == 200
    for secret in ("tiny", "fast", "first_finish", "Tiny", "0.1.0"):
        assert (secret in answer.text) == known
    assert ("wants an API key" in answer.text) != known
    assert answer.headers["vary"] == "Accept, Authorization"


async def test_links_that_this_server_lacks_are_left_out() -> None:
    async with client(docs=False) as http:
        links = (await http.get("/")).json()["links"]
    assert set(links) == {"models", "capabilities", "profiles", "metrics", "health"}


async def test_head() -> None:
    async with client() as http:
        answer = await http.head("/")
    assert (answer.status_code, answer.content) == (200, b"")
