"""The thinking phase as vLLM's reasoning parser of the model knows it."""

import functools
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from vllm.reasoning import ReasoningParserManager

from steersman.engine.compat.reasoning import ends, natural_end, turn_boundaries
from steersman.trajectory.phases import Markers, Turn, opens_thinking

logger = logging.getLogger(__name__)

_CHAT = [{"role": "user", "content": "?"}]
_TEXTS = 1 << 16
"""Tokens whose texts are remembered."""
_KEPT = 64
"""Sets of template arguments whose meaning for the parser is remembered."""


class Reasoning:
    """Tells whether a response begins in its thinking phase.

    Args:
        vllm_config: vLLM's configuration of the engine.
        tokenizer: The model's.
        chat_template: The template that chats are rendered with; None for the tokenizer's own.

    Attributes:
        markers: Tokens that open and close the phase; None for a model without one, or without a
            parser that says so.
        stops: Tokens each of which ends a response.
        text_of: The text of a single token, empty for a special one.

    """

    def __init__(self, vllm_config: Any, tokenizer: Any, chat_template: str | None = None) -> None:
        self._tokenizer = tokenizer
        self.text_of = functools.lru_cache(_TEXTS)(
            lambda token: tokenizer.decode([token], skip_special_tokens=True)
        )
        self._parser_class: Any = None
        self._assumed: dict[str, bool] = {}
        self._turn = Turn()
        self.markers: Markers | None = None
        self.stops = stop_tokens(vllm_config.model_config, tokenizer)
        config = vllm_config.reasoning_config
        if config is None or not config.enabled:
            return
        parser = None
        if config.reasoning_parser:
            self._parser_class = ReasoningParserManager.get_reasoning_parser(
                config.reasoning_parser
            )
            parser = self._parser_class(tokenizer)
        self.markers = _markers(config, parser, tokenizer)
        self._turn = Turn(
            frozenset({*self.stops, *turn_boundaries(parser)}),
            _header(tokenizer, chat_template, self.markers),
        )

    def opens(
        self, prompt_token_ids: Sequence[int], parser_kwargs: Mapping[str, Any] | None = None
    ) -> bool:
        """Tell whether a prompt leaves the thinking phase open, as vLLM reads the response.

        Args:
            prompt_token_ids: The rendered prompt.
            parser_kwargs: vLLM makes its parser for the request with these.

        """
        assumed = self._assumes(parser_kwargs or {})
        return opens_thinking(prompt_token_ids, self.markers, self._turn, assumed=assumed)

    def _assumes(self, parser_kwargs: Mapping[str, Any]) -> bool:
        """Tell whether the parser takes a response without any marker for thinking."""
        if self._parser_class is None:
            return False
        key = json.dumps(parser_kwargs, sort_keys=True, default=repr)
        if key not in self._assumed:
            if len(self._assumed) >= _KEPT:
                self._assumed.clear()
            self._assumed[key] = _takes_for_thinking(
                self._parser_class(self._tokenizer, **parser_kwargs)
            )
        return self._assumed[key]


def _takes_for_thinking(parser: Any) -> bool:
    """Tell whether a parser takes a response without any marker for thinking.

    One that cannot read such a response does not: thinking then begins with its marker.
    """
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

    if parser.is_reasoning_end([]):
        return False
    request = ChatCompletionRequest(messages=_CHAT)
    try:
        reasoning, content = parser.extract_reasoning("?", request)
    except Exception:  # a parser may know no such response; it must not fail the request
        logger.warning("%s reads no response without markers", type(parser).__name__, exc_info=True)
        return False
    return bool(reasoning) and not content


def _markers(config: Any, parser: Any, tokenizer: Any) -> Markers:
    start = tuple(config.reasoning_start_token_ids)
    end = natural_end(config)
    implicit = tuple(sorted({*ends(parser)} - ({*end} if len(end) == 1 else set())))
    return Markers(
        start=start,
        end=end,
        start_text=tokenizer.decode(start, skip_special_tokens=False),
        end_text=tokenizer.decode(end, skip_special_tokens=False),
        implicit=implicit,
        implicit_text=tuple(
            tokenizer.decode([token], skip_special_tokens=False) for token in implicit
        ),
    )


def _header(tokenizer: Any, chat_template: str | None, markers: Markers) -> tuple[int, ...]:
    """The tokens that the chat template begins the assistant's turn with, up to any marker."""

    def render(begun: bool) -> str:
        options = {} if chat_template is None else {"chat_template": chat_template}
        text: str = tokenizer.apply_chat_template(
            _CHAT, add_generation_prompt=begun, tokenize=False, **options
        )
        return text

    try:
        before, whole = render(False), render(True)
    except Exception:  # whatever a template raises that wants other messages; or there is none
        return ()
    if not whole.startswith(before):
        return ()
    header = whole.removeprefix(before)
    for marker in (markers.start_text, markers.end_text):
        header = header.partition(marker)[0]
    return tuple(tokenizer.encode(header, add_special_tokens=False)) if header else ()


def closing_tokens(vllm_config: Any) -> tuple[int, ...]:
    """The tokens put in to close the thinking phase: vLLM's `reasoning_end_str`.

    They end in the parser's own marker, and may begin with a phrase that leads over to the answer.
    """
    return tuple(vllm_config.reasoning_config.reasoning_end_token_ids)


def stop_tokens(config: Any, tokenizer: Any) -> tuple[int, ...]:
    """The tokens each of which ends a response: the tokenizer's, and the generation config's."""
    named = config.try_get_generation_config().get("eos_token_id")
    ids = {named} if isinstance(named, int) else set(named or ())
    if tokenizer.eos_token_id is not None:
        ids.add(tokenizer.eos_token_id)
    return tuple(sorted(ids))
