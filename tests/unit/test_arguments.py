"""Engine arguments that controls could not live with are refused at the start."""

from pathlib import Path
from typing import Any

import pytest
from vllm.multimodal.media import ImageMediaIO, MediaConnector
from vllm.platforms import current_platform

from steersman.arguments import ArgumentError, keys_of, parse
from steersman.engine.settings import Settings


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--api-server-count", "2"], "API server process"),
        (["--headless"], "headless"),
        (["--grpc"], "HTTP"),
        (["--data-parallel-multi-port-external-lb"], "each rank"),
    ],
)
def test_what_controls_could_not_reach(arguments: list[str], reason: str) -> None:
    with pytest.raises(ArgumentError, match=reason):
        parse(["some/model", *arguments])


def test_a_directory_that_is_not_there() -> None:
    with pytest.raises(ArgumentError, match="no model directory /no/such/model"):
        parse(["/no/such/model"])


def test_the_rust_front_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_USE_RUST_FRONTEND", "1")
    with pytest.raises(ArgumentError, match="VLLM_USE_RUST_FRONTEND"):
        parse(["some/model"])


def test_a_model_that_is_not_built_in_is_vllms_to_find() -> None:
    args = parse(["some/model", "--max-model-len", "512"])
    assert (args.model, args.served_model_name, args.max_model_len) == (
        "some/model",
        ["some/model"],
        512,
    )


def test_the_model_may_be_named_by_vllms_option_too() -> None:
    assert parse(["--model", "some/model"]).model == "some/model"


@pytest.mark.skipif(not current_platform.is_cpu(), reason="a GPU's generators can be rewound")
@pytest.mark.parametrize("engine", [None, Settings(rows=4)], ids=["plain", "steered"])
def test_prompts_are_not_split_on_a_cpu(engine: Settings | None) -> None:
    with pytest.raises(ArgumentError, match=r"--enable-chunked-prefill .* on a CPU, a seeded"):
        parse(["some/model", "--enable-chunked-prefill"], engine)
    assert not parse(["some/model", "--no-enable-chunked-prefill"], engine).enable_chunked_prefill


@pytest.mark.skipif(not current_platform.is_cpu(), reason="the defaults of CPUs")
def test_defaults_on_a_cpu_give_way_to_arguments() -> None:
    args = parse(["some/model"])
    assert (args.enforce_eager, args.block_size, args.dtype) == (True, 32, "auto")
    assert args.enable_chunked_prefill is False
    args = parse(["some/model", "--no-enforce-eager", "--block-size", "64"])
    assert (args.enforce_eager, args.block_size) == (False, 64)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--speculative-config", '{"method": "ngram"}'], "rejected draft token"),
        (["--enable-dbo"], "half batches"),
        (["--ubatch-size", "2"], "part batches"),
        (["--prefill-context-parallel-size", "2"], "other tokens of a prompt"),
        (["--enable-hc-sp"], "other tokens of a batch"),
        (["--kv-sharing-fast-prefill"], "leave out tokens of a prompt"),
        (
            [
                "--kv-transfer-config",
                '{"kv_connector": "LMCacheMPConnector", "kv_role": "kv_both"}',
            ],
            "LMCacheMPConnector: it finds blocks by their tokens",
        ),
    ],
)
def test_what_would_steer_the_wrong_token(arguments: list[str], reason: str) -> None:
    with pytest.raises(ArgumentError, match=f"with steering: .*{reason}.* add --no-steering"):
        parse(["some/model", *arguments], Settings(rows=4))
    assert parse(["some/model", *arguments])


def test_keys_of_command_line_environment_and_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text("[{name: alice, key: sk-alice}]")
    monkeypatch.setenv("VLLM_API_KEY", "of-the-environment")
    keys = keys_of(parse(["some/model"]), "sk-admin", path)
    assert [key.name for key in keys] == ["api-key", "admin-api-key", "alice"]
    assert keys.find("of-the-environment")
    keys = keys_of(parse(["some/model", "--api-key", "one", "two"]), None, None)
    assert [key.name for key in keys] == ["api-key", "api-key-2"]
    assert keys.find("of-the-environment") is None
    monkeypatch.delenv("VLLM_API_KEY")
    assert not keys_of(parse(["some/model"]), None, None).closed


def test_the_admin_key_is_not_for_everybody() -> None:
    with pytest.raises(ArgumentError, match="must differ from --api-key"):
        keys_of(parse(["some/model", "--api-key", "one", "two"]), "two", None)


def test_priorities_need_a_scheduler_that_knows_them(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text("[{name: alice, key: sk-alice, priority: 1}]")
    with pytest.raises(ArgumentError, match="need --scheduling-policy priority"):
        keys_of(parse(["some/model"]), None, path)
    assert keys_of(parse(["some/model", "--scheduling-policy", "priority"]), None, path)


def test_pages_of_other_origins_are_kept_out_unless_they_are_named() -> None:
    assert parse(["some/model"]).allowed_origins == []
    named = parse(["some/model", "--allowed-origins", '["https://page.example"]'])
    assert named.allowed_origins == ["https://page.example"]


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/x.png", "https://example.com/x.png", "http:///x", "file:///etc/x"]
)
def test_no_address_of_a_request_is_fetched_unless_its_host_is_named(url: str) -> None:
    class NoConnection:
        def get_bytes(self, *_: object, **__: object) -> bytes:
            raise AssertionError("an address was fetched")

    connection: Any = NoConnection()
    domains = parse(["some/model"]).allowed_media_domains
    closed = MediaConnector(connection=connection, allowed_media_domains=domains)
    with pytest.raises((ValueError, RuntimeError), match="--allowed-"):
        closed.load_from_url(url, ImageMediaIO())


def test_hosts_that_an_operator_names() -> None:
    args = parse(["some/model", "--allowed-media-domains", "a.example", "b.example"])
    assert args.allowed_media_domains == ["a.example", "b.example"]


def test_the_plugin_must_not_be_filtered_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_PLUGINS", "other")
    with pytest.raises(ArgumentError, match="VLLM_PLUGINS must name steersman"):
        parse(["some/model"], Settings(rows=4))
    monkeypatch.setenv("VLLM_PLUGINS", "other,steersman")
    assert parse(["some/model"], Settings(rows=4))


def test_the_engine_learns_its_settings_from_vllms_own_configuration() -> None:
    args = parse(["some/model", "--additional-config", '{"mine": 1}'], Settings(rows=4))
    assert args.additional_config["mine"] == 1
    assert Settings(**args.additional_config["steersman"]) == Settings(rows=4)
    assert "steersman" not in (parse(["some/model"]).additional_config or {})


@pytest.mark.skipif(not current_platform.is_cpu(), reason="the defaults of CPUs")
def test_pipeline_stages_are_compiled_on_a_cpu() -> None:
    assert parse(["some/model", "--pipeline-parallel-size", "2"]).enforce_eager is False
