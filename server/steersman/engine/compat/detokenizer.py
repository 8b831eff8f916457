"""vLLM's own detokenizer, for responses whose tokens come from several engine requests."""

from collections.abc import Sequence
from copy import copy
from types import SimpleNamespace
from typing import Any

from vllm.sampling_params import SamplingParams
from vllm.v1.engine.detokenizer import IncrementalDetokenizer


class JoinedText:
    """Text of one response, and the stop strings in it, as if one engine request had sampled it.

    Args:
        detokenizer: vLLM's, of a request as that one would be.

    Attributes:
        stop: The stop string that is complete; None for none.

    """

    def __init__(self, detokenizer: IncrementalDetokenizer) -> None:
        self._detokenizer = detokenizer
        self.stop: str | None = None

    @classmethod
    def after(
        cls, tokenizer: Any, prompt_token_ids: Sequence[int], params: SamplingParams
    ) -> "JoinedText":
        """The text of a response to a prompt, before its first token.

        Args:
            tokenizer: The model's; None on a server that does not detokenize.
            prompt_token_ids: The prompt.
            params: Sampling parameters of the response as a whole.

        """
        request: Any = SimpleNamespace(
            request_id="joined",
            prompt_token_ids=list(prompt_token_ids),
            prompt_embeds=None,
            sampling_params=params,
        )
        return cls(
            IncrementalDetokenizer.from_new_request(
                tokenizer if params.detokenize else None, request
            )
        )

    @property
    def tokens(self) -> int:
        """Tokens so far, without any that came after a stop string."""
        tokens: int = self._detokenizer.num_output_tokens()
        return tokens

    @property
    def token_ids(self) -> Sequence[int]:
        """These tokens."""
        token_ids: Sequence[int] = self._detokenizer.output_token_ids
        return token_ids

    def copied(self) -> "JoinedText":
        """The same text with the same state, to be gone on with by itself.

        Raises:
            TypeError: The decoder of this tokenizer cannot be copied.

        """
        own = copy(self._detokenizer)
        vars(own).update(
            {
                name: copy(value)
                for name, value in vars(own).items()
                if name == "stream" or isinstance(value, list)  # all that changes in place
            }
        )
        return type(self)(own)

    def add(self, token_ids: Sequence[int], *, stopped: bool = False) -> str | None:
        """Take the next tokens.

        Args:
            token_ids: The tokens.
            stopped: Whether the last of them is a stop token that ends the response.

        Returns:
            The stop string that they complete; None for none.

        """
        self.stop = self._detokenizer.update(list(token_ids), stopped)
        return self.stop

    def text(self, *, ended: bool) -> str:
        """New text since the last call; without `ended`, an end that could begin a stop string is
        held back."""
        text: str = self._detokenizer.get_next_output_text(ended, True)
        return text
