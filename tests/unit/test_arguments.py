"""Engine arguments that controls could not live with are refused at the start."""

import pytest
from vllm.platforms import current_platform

from steersman.arguments import ArgumentError, parse
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
