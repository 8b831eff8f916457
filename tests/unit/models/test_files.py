"""A model's files are read from its directory, the Hub's cache, or the Hub itself."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import huggingface_hub.constants as hub
import pytest

from steersman.models.files import ModelFiles
from tests.unit.models.made_up import tensor, write

COMMIT = "0123456789012345678901234567890123456789"
CONFIG = {"model_type": "qwen3", "dtype": "bfloat16"}


def test_a_directory(tmp_path: Path) -> None:
    write(tmp_path, CONFIG, template="<think>", weights={"m.safetensors": {"a": tensor(10)}})
    files = ModelFiles(str(tmp_path))
    assert files.config == CONFIG
    assert files.chat_template() == "<think>"
    assert files.weight_bytes() == {"BF16": 20}


@pytest.mark.parametrize(
    ("file", "content", "template"),
    [
        ("tokenizer_config.json", {"chat_template": "one"}, "one"),
        (
            "tokenizer_config.json",
            {
                "chat_template": [
                    {"name": "default", "template": "a"},
                    {"name": "t", "template": "b"},
                ]
            },
            "a\nb",
        ),
        ("tokenizer_config.json", {"chat_template": 3}, ""),
        ("chat_template.json", {"chat_template": "two"}, "two"),
        ("tokenizer_config.json", [], ""),
    ],
)
def test_chat_templates_have_had_several_places(
    tmp_path: Path, file: str, content: object, template: str
) -> None:
    write(tmp_path, CONFIG)
    (tmp_path / file).write_text(json.dumps(content))
    assert ModelFiles(str(tmp_path)).chat_template() == template


def test_what_is_not_there_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b"\xff{")
    for name in (str(tmp_path), str(tmp_path / "none"), "some/model", "no such: name"):
        files = ModelFiles(name)
        assert files.config == {}
        assert files.chat_template() == ""
        assert files.weight_bytes() == {}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def test_the_hubs_cache_is_read_offline(cache: Path) -> None:
    repository = cache / "models--some--model"
    snapshot = repository / "snapshots" / COMMIT
    write(snapshot, CONFIG, template="hello", weights={"model.safetensors": {"a": tensor(10)}})
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(COMMIT)
    files = ModelFiles("some/model")
    assert files.config == CONFIG
    assert files.chat_template() == "hello"
    assert files.weight_bytes() == {"BF16": 20}


class Hub(BaseHTTPRequestHandler):
    """A Hub with one model, whose only small file is its configuration."""

    asked: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self._answer({"ETag": '"1"', "X-Repo-Commit": COMMIT}, json.dumps(CONFIG).encode(), "")

    def do_GET(self) -> None:
        if self.path.startswith("/api/models/some/model"):
            siblings = [{"rfilename": "config.json"}]
            counts = {"parameters": {"BF16": 1000}, "total": 1000}
            information = {"id": "some/model", "siblings": siblings, "safetensors": counts}
            self._answer({}, json.dumps(information).encode(), "body")
        elif self.path.startswith("/api"):
            self.send_error(404)
        else:
            self._answer({"ETag": '"1"', "X-Repo-Commit": COMMIT}, json.dumps(CONFIG).encode(), "b")

    def _answer(self, headers: dict[str, str], content: bytes, body: str) -> None:
        self.asked.append(f"{self.command} {self.path.partition('?')[0]}")
        self.send_response(200)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def hub_server(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "ENDPOINT", url)
    monkeypatch.setattr(
        hub, "HUGGINGFACE_CO_URL_TEMPLATE", f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    )
    monkeypatch.setattr(Hub, "asked", [])
    yield Hub.asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_hub_is_asked_for_what_it_has(hub_server: list[str]) -> None:
    files = ModelFiles("some/model")
    assert files.config == CONFIG
    assert files.chat_template() == ""  # it lists none, so none is asked for
    assert files.weight_bytes() == {"BF16": 2000}
    assert hub_server[0] == "GET /api/models/some/model"
    assert {path.rpartition("/")[2] for path in hub_server} == {"model", "config.json"}
    again = len(hub_server)
    assert ModelFiles("some/model").config == CONFIG
    assert len(hub_server) == again
    assert ModelFiles("some/model", hub=False).config == {}


def test_a_model_that_the_hub_does_not_know(hub_server: list[str]) -> None:
    assert ModelFiles("other/model").config == {}
    assert hub_server == []
