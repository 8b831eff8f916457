"""Responses from several engine requests: a prefix, and the tokens that a fork adds to it."""

import contextlib
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from typing import Any

from vllm.outputs import RequestOutput
from vllm.sampling_params import SamplingParams

from steersman.engine.compat.detokenizer import JoinedText
from steersman.frontend.outputs import join, piece
from steersman.trajectory.track import Track
from steersman.trajectory.trajectory import Piece, Prefix, Trajectory
from steersman_kernels.layout import Value


def fork_params(params: SamplingParams, begun: int) -> SamplingParams:
    """Sampling parameters of a request that goes on after tokens of its response.

    Stop strings are looked for in the joined text, not in the fork's own.

    Args:
        params: Sampling parameters of the response as a whole. They are not changed.
        begun: The tokens.

    """
    fork = params.clone()
    if fork.max_tokens is not None:
        fork.max_tokens = max(1, fork.max_tokens - begun)
    fork.min_tokens = max(0, fork.min_tokens - begun)
    fork.stop = []
    fork.output_text_buffer_length = 0
    fork.prompt_logprobs = None
    return fork


def joined_track(track: Track | None, prefix: Prefix[Any] | None, suffix: Sequence[int]) -> None:
    """Put the measurements of a prefix before those of a fork.

    Args:
        track: The fork's, empty; None if nothing is measured.
        prefix: The tokens that it begins after.
        suffix: Tokens put behind the prefix, which nobody drew.

    """
    if track is None:
        return
    if prefix is not None and (parent := prefix.trajectory.track) is not None:
        track.token_ids.extend(parent.token_ids[: prefix.tokens])
        track.values.extend(parent.values[: prefix.tokens])
    track.token_ids.extend(suffix)
    track.values.extend(Value.undrawn().packed() for _ in suffix)


def excerpt(
    trajectory: Trajectory[RequestOutput],
    begin: int,
    end: int,
    text: int,
    finish_reason: str | None,
) -> Piece[RequestOutput]:
    """The piece that has some tokens of a trajectory: see `Trajectory.excerpt`.

    The trajectory's own outputs are left as they are. Text of a step that is cut in the middle
    comes with the step's last token. The prompt's fields, and the way to its blocks for another
    engine, are those of the trajectory that began at the prompt.
    """
    within = trajectory.within(begin, end)
    written = trajectory.text_of(end, text)
    root = _root(trajectory)
    if len(within) == 1 and root is trajectory:
        step = within[0][0]
        whole = (len(step.token_ids), step.text, step.finish_reason)
        if whole == (end - begin, written, finish_reason):
            return step
    output = copy(within[-1][0].output if within else trajectory.pieces[-1].output)
    completion = copy(output.outputs[0])
    parts = []
    for step, first, last in within:
        part = copy(step.output.outputs[0])
        part.token_ids = step.token_ids
        _keep(part, last, first)
        parts.append(part)
    completion.logprobs = None if completion.logprobs is None else []
    completion.sampling_mask = None
    join(completion, parts)
    completion.token_ids = trajectory.token_ids[begin:end]
    completion.text = written
    if finish_reason is None:
        completion.stop_reason = None
    else:
        completion.stop_reason = trajectory.pieces[-1].output.outputs[0].stop_reason
    completion.finish_reason = finish_reason
    output.outputs, output.finished = [completion], finish_reason is not None
    opening = root.pieces[0].output
    output.prompt, output.prompt_token_ids = opening.prompt, opening.prompt_token_ids
    output.prompt_logprobs = opening.prompt_logprobs
    output.num_cached_tokens = opening.num_cached_tokens
    if finish_reason is not None:
        transfer = root.pieces[-1].output.kv_transfer_params
        output.kv_transfer_params = output.kv_transfer_params or transfer
    return piece(output)


def _root(trajectory: Trajectory[RequestOutput]) -> Trajectory[RequestOutput]:
    """The trajectory that a fork, or a fork of forks, goes back to."""
    while trajectory.start.prefix is not None:
        trajectory = trajectory.start.prefix.trajectory
    return trajectory


class Texts:
    """Texts of prefixes: each is read on from the last one of the same response, not anew.

    Args:
        tokenizer: The model's.
        prompt_token_ids: The prompt.
        params: Sampling parameters of a response as a whole.

    """

    def __init__(
        self, tokenizer: Any, prompt_token_ids: Sequence[int], params: SamplingParams
    ) -> None:
        self.prompt_token_ids = list(prompt_token_ids)
        self._new = partial(JoinedText.after, tokenizer, self.prompt_token_ids, params)
        self._read: dict[Trajectory[RequestOutput], JoinedText] = {}  # by the root

    def after(self, prefix: Prefix[RequestOutput] | None) -> JoinedText:
        """The text of a prefix, to be gone on with: as if it were read from its first token on."""
        if prefix is None:
            return self._new()
        token_ids = prefix.trajectory.token_ids[: prefix.tokens]
        root = _root(prefix.trajectory)
        text = self._read.pop(root, None)
        if text is None or text.token_ids != token_ids[: text.tokens]:
            text = self._new()
        stop = text.add(token_ids[text.tokens :])
        if stop is None:
            with contextlib.suppress(TypeError):  # then the next fork reads it anew
                self._read[root] = text.copied()
        return text


class Seam:
    """Makes the pieces of a fork go on where its prefix ends.

    Args:
        texts: Texts of the request's prefixes.
        prefix: Tokens of another trajectory that the response begins with.
        suffix: Tokens put behind them.

    """

    def __init__(
        self, texts: Texts, prefix: Prefix[RequestOutput] | None, suffix: Sequence[int]
    ) -> None:
        self._prompt = texts.prompt_token_ids
        self._text = texts.after(prefix)
        self._prefix, self._suffix = prefix, suffix

    def begin(self, first: RequestOutput) -> Piece[RequestOutput]:
        """The piece that holds the tokens which the response begins with. It has the finish
        reason `stop` if a stop string is complete with the suffix.

        Args:
            first: The fork's first output, for the fields that the two have in common.

        """
        stop = self._text.stop or self._text.add(self._suffix)
        output, completion = copy(first), copy(first.outputs[0])
        completion.token_ids = begun_tokens(self._prefix, self._suffix)
        completion.text = self._text.text(ended=stop is not None)
        completion.finish_reason, completion.stop_reason = stop and "stop", stop
        completion.logprobs = None
        completion.sampling_mask = None
        join(completion, _cut(self._prefix))
        if stop is not None:
            _keep(completion, self._text.tokens)
        output.outputs, output.prompt_token_ids, output.finished = [completion], self._prompt, False
        if self._prefix is not None and (pieces := self._prefix.trajectory.pieces):
            output.prompt = pieces[0].output.prompt
            output.prompt_logprobs = pieces[0].output.prompt_logprobs
        return piece(output)

    def go_on(self, output: RequestOutput) -> Piece[RequestOutput]:
        """A step of the fork, with its text as the joined tokens give it; changed in place.

        The piece has the finish reason `stop` if a stop string is complete: the fork is then to be
        ended by whoever runs it.
        """
        (completion,) = output.outputs
        output.prompt_token_ids = self._prompt
        stopped = completion.finish_reason == "stop"
        before = self._text.tokens
        stop = self._text.add(completion.token_ids, stopped=stopped)
        if stop is not None:
            completion.finish_reason, completion.stop_reason = "stop", stop
            _keep(completion, self._text.tokens - before)
        completion.text = self._text.text(ended=completion.finish_reason is not None)
        return piece(output)


def begun_tokens(prefix: Prefix[Any] | None, suffix: Sequence[int]) -> list[int]:
    """The tokens of a prefix and of a suffix."""
    before = prefix.trajectory.token_ids[: prefix.tokens] if prefix is not None else []
    return [*before, *suffix]


def _cut(prefix: Prefix[RequestOutput] | None) -> list[Any]:
    """Copies of the `CompletionOutput`s that a prefix is of, cut to it; none if all that they have
    is tokens and text."""
    if prefix is None or not any(map(_more, prefix.trajectory.pieces)):
        return []
    parts = []
    for step, first, last in prefix.trajectory.within(0, prefix.tokens):
        parts.append(copy(step.output.outputs[0]))
        parts[-1].token_ids = step.token_ids
        _keep(parts[-1], last, first)
    return parts


def _more(step: Piece[RequestOutput]) -> bool:
    """True if a step has log-probabilities or a sampling mask."""
    completion = step.output.outputs[0]
    return completion.logprobs is not None or completion.sampling_mask is not None


def _keep(completion: Any, end: int, begin: int = 0) -> None:
    """Cut a `CompletionOutput` to some of its tokens; its text is left as it is."""
    completion.token_ids = list(completion.token_ids[begin:end])
    if completion.logprobs is not None:
        completion.logprobs = completion.logprobs[begin:end]
    if (mask := completion.sampling_mask) is not None:
        completion.sampling_mask = replace(mask, token_ids=mask.token_ids[begin:end])
