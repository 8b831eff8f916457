"""Arguments that were left open follow from the model."""

import json
import logging
import shutil
from pathlib import Path

import pytest
from vllm.platforms import current_platform

from steersman import by_model, memory
from steersman.arguments import ArgumentError, parse
from steersman.models.catalog import BUILT_IN
from tests.unit.models.made_up import tensor, write

REASONER = Path(BUILT_IN["reasoner"].path)
ON_A_CPU = pytest.mark.skipif(not current_platform.is_cpu(), reason="for CPUs")
CALLS = r'{# <tool_call>\n{"name": <function-name>} #}'


@pytest.fixture
def thinker(tmp_path: Path) -> Path:
    """A directory of a model that thinks and calls tools."""
    directory = tmp_path / "thinker"
    shutil.copytree(REASONER, directory, ignore=shutil.ignore_patterns("control"))
    template = directory / "chat_template.jinja"
    template.write_text(CALLS + template.read_text())
    return directory


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Lines of the server's log."""
    lines: list[str] = []
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", lambda record: lines.append(record.getMessage()))
    monkeypatch.setattr(by_model.logger, "handlers", [handler])
    monkeypatch.setattr(by_model.logger, "level", logging.INFO)
    by_model.logger.manager._clear_cache()  # of levels asked for before
    return lines


def test_a_model_of_a_known_family_needs_no_arguments(thinker: Path, said: list[str]) -> None:
    args = parse([str(thinker)])
    assert args.reasoning_parser == "qwen3"
    assert (args.tool_call_parser, args.enable_auto_tool_choice) == ("hermes", True)
    assert [line for line in said if "parser" in line] == [
        "--reasoning-parser qwen3, for a model of the family qwen3",
        "--tool-call-parser hermes, for a model of the family qwen3",
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--reasoning-parser", "deepseek_r1"], ("deepseek_r1", "hermes", True)),
        (["--reasoning-parser", "none"], ("", "hermes", True)),
        (["--tool-call-parser", "none"], ("qwen3", None, False)),
        (["--tool-call-parser", "mistral"], ("qwen3", "mistral", True)),
        (["--no-enable-auto-tool-choice"], ("qwen3", None, False)),
        (["--enable-auto-tool-choice"], ("qwen3", "hermes", True)),
        (["--skip-tokenizer-init"], ("", None, False)),
        (["--structured-outputs-config", '{"reasoning_parser": "glm45"}'], ("", "hermes", True)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_arguments_override(
    thinker: Path, arguments: list[str], expected: tuple[str, str | None, bool]
) -> None:
    args = parse([str(thinker), *arguments])
    assert (args.reasoning_parser, args.tool_call_parser, args.enable_auto_tool_choice) == expected


def test_a_file_of_arguments_overrides_too(thinker: Path, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("reasoning-parser: none\ntool-call-parser: none\ndtype: bfloat16\n")
    args = parse([str(thinker), "--config", str(file)])
    assert (args.reasoning_parser, args.tool_call_parser, args.dtype) == ("", None, "bfloat16")


def test_another_chat_template_counts_instead(thinker: Path) -> None:
    args = parse([str(thinker), "--chat-template", "{{ messages[0].content }}"])
    assert (args.reasoning_parser, args.tool_call_parser) == ("", None)


def test_a_chat_template_that_is_not_there_is_refused(thinker: Path) -> None:
    with pytest.raises(ArgumentError, match=r"/no/such\.jinja"):
        parse([str(thinker), "--chat-template", "/no/such.jinja"])


def test_a_parser_that_does_not_fit_the_tokenizer_is_left_out(
    thinker: Path, said: list[str]
) -> None:
    config = json.loads((thinker / "config.json").read_text())
    (thinker / "config.json").write_text(json.dumps(config | {"model_type": "qwen2"}))
    (thinker / "chat_template.jinja").write_text("assistant\n<think>")
    tokenizer = (thinker / "tokenizer.json").read_text()
    (thinker / "tokenizer.json").write_text(tokenizer.replace("think>", "thought>"))
    assert parse([str(thinker)]).reasoning_parser == ""
    assert any("--reasoning-parser deepseek_r1 does not fit this model: " in line for line in said)


def test_a_model_whose_tokenizer_cannot_be_read_has_no_parsers(thinker: Path) -> None:
    (thinker / "tokenizer.json").write_text("{")
    args = parse([str(thinker)])
    assert (args.reasoning_parser, args.tool_call_parser) == ("", None)


def test_built_in_models_have_theirs(said: list[str]) -> None:
    args = parse(["reasoner"])
    assert (args.reasoning_parser, args.tool_call_parser) == ("qwen3", None)
    assert parse(["reasoner", "--reasoning-parser", "none"]).reasoning_parser == ""
    assert said == []


def test_tool_choice_without_a_parser_is_refused() -> None:
    with pytest.raises(ArgumentError, match="requires --tool-call-parser"):
        parse(["reasoner", "--enable-auto-tool-choice"])


@ON_A_CPU
@pytest.mark.parametrize(
    ("native", "free", "arguments", "dtype"),
    [
        (False, 64, [], "float32"),
        (False, 1, [], "auto"),
        (True, 64, [], "auto"),
        (False, 64, ["--dtype", "bfloat16"], "bfloat16"),
        (False, 64, ["--dtype", "auto"], "auto"),
        (False, 64, ["--quantization", "awq"], "auto"),
        (False, 6, ["--kv-cache-memory-bytes", "1G"], "float32"),
        (False, 6, ["--kv-cache-memory-bytes", "5G"], "auto"),
        (False, 5, ["--data-parallel-size", "2"], "auto"),
    ],
)
def test_float32_where_bfloat16_is_slow_and_memory_allows(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    said: list[str],
    native: bool,
    free: int,
    arguments: list[str],
    dtype: str,
) -> None:
    monkeypatch.setattr(by_model, "_has_native_bfloat16", lambda: native)
    monkeypatch.setattr(memory, "available", lambda: free * 2**30)
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "2")
    weights = {"model.safetensors": {"a": tensor(10)}}
    model = write(tmp_path, {"model_type": "llama", "dtype": "bfloat16"}, weights=weights)
    assert parse([str(model), *arguments]).dtype == dtype
    chose = not native and not {"--dtype", "--quantization"} & set(arguments)
    assert [line.startswith(f"Number type {dtype}: ") for line in said] == [True] * chose


@ON_A_CPU
@pytest.mark.parametrize("native", [False, True])
def test_built_in_models_are_small_enough_for_float32(
    monkeypatch: pytest.MonkeyPatch, native: bool
) -> None:
    monkeypatch.setattr(by_model, "_has_native_bfloat16", lambda: native)
    monkeypatch.setattr(memory, "available", lambda: 0)
    assert parse(["reasoner"]).dtype == ("auto" if native else "float32")


@ON_A_CPU
def test_the_context_is_cut_to_the_cache_unless_told() -> None:
    assert parse(["reasoner"]).max_model_len == -1
    assert parse(["reasoner", "--max-model-len", "512"]).max_model_len == 512


def test_other_devices_choose_their_number_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_model, "_has_native_bfloat16", lambda: False)
    monkeypatch.setattr(current_platform, "is_cpu", lambda: False)
    write(tmp_path, {"model_type": "llama", "dtype": "bfloat16"})
    assert parse([str(tmp_path)]).dtype == "auto"
