"""Request bodies that an endpoint takes, mostly: what is asked, and the fields beside it."""

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.fuzz import values
from tests.fuzz.sound import Sound, mostly
from tests.fuzz.surface import Surface

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
RESPONSES = "/v1/responses"
SCHEMAS = {
    CHAT: "ChatCompletionRequest",
    COMPLETIONS: "CompletionRequest",
    RESPONSES: "ResponsesRequest",
}
MAX_TOKENS = {CHAT: "max_tokens", COMPLETIONS: "max_tokens", RESPONSES: "max_output_tokens"}

_MOST_FIELDS = 5
_QUESTIONS = (
    *("6+9*3-8=?", "5*7-4+1=?", "Hi", "", " ", "a", "What is the <think> tag? 2+2=?"),
    *("</think>", "<think>", "é💥\u202e", "control", "3+4=? " * 12),
)
_PREFIXES = ("The answer is", "<think>\n", "<think>\n2+2=4\n</think>\n\n", "", "</think>")
_TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
    },
}
_OBJECT = {"type": "object", "properties": {"answer": {"type": "integer"}}, "required": ["answer"]}
_REGEXES = ("[0-9]{1,3}", "(yes|no)", "a*", "[a-z]{3}\n", ".")
_GRAMMARS = ('root ::= "yes" | "no"', 'root ::= [0-9]+ "."')


class Bodies:
    """Strategies for the bodies of one server's endpoints, `control` not among them.

    Args:
        surface: The server.
        sound: Strategies for its schemas.

    """

    def __init__(self, surface: Surface, sound: Sound) -> None:
        self._surface = surface
        self._sound = sound

    def of(self, endpoint: str) -> SearchStrategy[dict[str, Any]]:
        """Bodies of an endpoint.

        Args:
            endpoint: Its path.

        """
        asked = {CHAT: self._chat, COMPLETIONS: self._completions, RESPONSES: self._responses}
        limit = mostly(
            st.one_of(st.integers(1, 12), st.integers(12, 48)), st.sampled_from((1, 2, 100, None))
        )
        model = mostly(st.just(self._surface.model), self._models())
        frame = st.fixed_dictionaries(
            {"model": model, MAX_TOKENS[endpoint]: limit, "stream": st.booleans()}
        )
        return st.builds(
            lambda frame, fields, asked: {**frame, **fields, **asked},
            frame,
            self._fields(endpoint),
            asked[endpoint](),
        )

    def _models(self) -> SearchStrategy[Any]:
        model, profiles = self._surface.model, self._surface.names.get("profile", ())
        suffixed = [f"{model}:{suffix}" for suffix in (*profiles, "", "none", "a:b")]
        return st.sampled_from([*suffixed, None, "", model.upper(), "gpt-9"])

    def _fields(self, endpoint: str) -> SearchStrategy[dict[str, Any]]:
        schemas = self._surface.properties(SCHEMAS[endpoint])
        strategies = {
            name: self._sound.of(schema, name)
            for name, schema in schemas.items()
            if name not in {"messages", "input", "prompt", "model"}
        }
        shaped = {name: value for name, value in self._shaped().items() if name in schemas}
        # vLLM's own documents say little of these, and most values would be refused.
        strategies |= {name: mostly(value, strategies[name]) for name, value in shaped.items()}
        from_schema = st.sampled_from(sorted(strategies))
        from_shapes = st.sampled_from(sorted(shaped))
        names = st.lists(st.one_of(from_shapes, from_schema), max_size=_MOST_FIELDS, unique=True)
        return names.flatmap(
            lambda chosen: st.fixed_dictionaries({name: strategies[name] for name in chosen})
        )

    def _shaped(self) -> dict[str, SearchStrategy[Any]]:
        """Fields whose values take more than their type to be taken, by name."""
        tokens = mostly(
            st.one_of(st.sampled_from(self._surface.special_tokens or (0,)), st.integers(0, 383)),
            st.sampled_from(values.INTEGERS),
        )
        unit = st.floats(0, 1)
        return {
            "n": mostly(st.integers(1, 4), st.sampled_from((16, 17, "2", 2.0, True))),
            "seed": mostly(st.integers(0, 2**31), st.sampled_from(values.INTEGERS)),
            "temperature": mostly(st.floats(0, 2), st.sampled_from((0, 1e-5, 1e-320, 2, "0"))),
            "top_p": mostly(unit, st.sampled_from((1e-300, 1))),
            "top_k": st.sampled_from((-1, 0, 1, 5, 384, 2**31 - 1)),
            "min_p": unit,
            "presence_penalty": st.floats(-2, 2),
            "frequency_penalty": st.floats(-2, 2),
            "repetition_penalty": st.floats(0.01, 2),
            "stop": st.one_of(
                st.sampled_from(("\n", "</think>", "answer", "=", "7")),
                st.lists(st.sampled_from(("\n", "0", "Wait")), max_size=3),
            ),
            "stop_token_ids": st.lists(tokens, max_size=3),
            "allowed_token_ids": st.lists(tokens, min_size=1, max_size=6),
            "logprob_token_ids": st.lists(tokens, max_size=3),
            "bad_words": st.lists(st.sampled_from(("Wait", "=", "the")), max_size=2),
            "logit_bias": st.dictionaries(
                tokens.map(str), st.floats(-100, 100), min_size=1, max_size=3
            ),
            "logprobs": st.one_of(st.booleans(), st.integers(0, 6)),
            "top_logprobs": st.integers(0, 6),
            "prompt_logprobs": st.integers(0, 3),
            "min_tokens": st.integers(0, 12),
            "ignore_eos": st.booleans(),
            "thinking_token_budget": st.integers(0, 12),
            "structured_outputs": st.one_of(
                st.just({"choice": ["yes", "no"]}),
                st.just({"json": _OBJECT}),
                st.just({"json_object": True}),
                st.sampled_from(_REGEXES).map(lambda regex: {"regex": regex}),
                st.sampled_from(_GRAMMARS).map(lambda grammar: {"grammar": grammar}),
            ),
            "response_format": st.sampled_from(
                (
                    {"type": "text"},
                    {"type": "json_object"},
                    {"type": "json_schema", "json_schema": {"name": "a", "schema": _OBJECT}},
                )
            ),
            "text": st.sampled_from(
                (
                    {"format": {"type": "text"}},
                    {"format": {"type": "json_schema", "name": "a", "schema": _OBJECT}},
                )
            ),
            "stream_options": st.fixed_dictionaries(
                {"include_usage": st.booleans()}, optional={"continuous_usage_stats": st.booleans()}
            ),
            "chat_template_kwargs": st.fixed_dictionaries({"enable_thinking": st.booleans()}),
            "vllm_xargs": st.dictionaries(
                st.sampled_from(("steersman", "control", "a")), values.anything(), max_size=2
            ),
            "echo": st.booleans(),
            "cache_salt": st.sampled_from(("a", "b", "💥")),
        }

    def _chat(self) -> SearchStrategy[dict[str, Any]]:
        def conversation(turns: list[Mapping[str, Any]], prefix: str | None) -> dict[str, Any]:
            if prefix is None:
                return {"messages": turns}
            answer = {"role": "assistant", "content": prefix}
            open_ended = {"continue_final_message": True, "add_generation_prompt": False}
            return {"messages": [*turns, answer], **open_ended}

        prefix = mostly(st.none(), st.sampled_from(_PREFIXES), rarely=6)
        asked = st.builds(conversation, _messages(), prefix)
        tools = st.fixed_dictionaries(
            {
                "tools": st.just([_TOOL]),
                "tool_choice": st.one_of(
                    st.sampled_from(("none", "auto", "required")),
                    st.just({"type": "function", "function": {"name": "add"}}),
                ),
            }
        )
        with_tools = st.builds(lambda asked, tools: {**asked, **tools}, asked, tools)
        return mostly(asked, with_tools, rarely=8)

    def _completions(self) -> SearchStrategy[dict[str, Any]]:
        text = st.sampled_from(_QUESTIONS)
        ids = st.lists(st.integers(0, 340), min_size=1, max_size=40)
        several = st.one_of(st.lists(text, max_size=3), st.lists(ids, max_size=3))
        return mostly(text, st.one_of(ids, several), rarely=4).map(
            lambda prompt: {"prompt": prompt}
        )

    def _responses(self) -> SearchStrategy[dict[str, Any]]:
        plain = st.sampled_from(_QUESTIONS)
        tool = {"type": "function", "name": "add", "parameters": _OBJECT, "strict": True}
        asked = mostly(plain, _messages()).map(lambda asked: {"input": asked})
        with_tools = st.builds(
            lambda asked, choice: {**asked, "tools": [tool], "tool_choice": choice},
            asked,
            st.sampled_from(("auto", "required", "none", {"type": "function", "name": "add"})),
        )
        return mostly(asked, with_tools, rarely=10)


def _messages() -> SearchStrategy[list[Mapping[str, Any]]]:
    question = st.sampled_from(_QUESTIONS)
    content = mostly(question, question.map(lambda text: [{"type": "text", "text": text}]), 8)
    user = content.map(lambda content: {"role": "user", "content": content})
    system = {"role": "system", "content": "Be brief."}
    assistant = {"role": "assistant", "content": "4"}
    return st.one_of(
        user.map(lambda user: [user]),
        user.map(lambda user: [user]),
        user.map(lambda user: [system, user]),
        user.map(lambda user: [user, assistant, user]),
    )
