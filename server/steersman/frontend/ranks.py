"""All ranks of all engines, as the front end speaks to them."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from vllm.engine.protocol import EngineClient
from vllm.inputs import tokens_input
from vllm.sampling_params import RequestOutputKind, SamplingParams

from steersman.artifacts.artifact import HostError
from steersman.edits import file as edit_file
from steersman.edits.edit import Edit, EditError
from steersman.engine.compat.client import collective_rpc
from steersman.engine.plugin import ASK
from steersman.engine.ring import RankFacts
from steersman.frontend.reasoning import closing_tokens
from steersman.trajectory.boundaries import boundary_table
from steersman.trajectory.phases import Markers
from steersman.vectors import file as vector_file
from steersman.vectors.vector import Vector

logger = logging.getLogger(__name__)
_TEXT = "Question: What is 17 * 24 - 9? Let us think step by step."
_TOKENS = 64
"""The model's own tokens, after the text, in which the residual stream is measured."""


class SteeringError(Exception):
    """Steering cannot work on this engine; the server must not start."""


class RankError(HostError):
    """A rank failed at a call on all ranks."""


class Ranks:
    """Calls on every rank. They wait for the engine's current step.

    Args:
        engine: vLLM's engine client.
        retry_seconds: Between two attempts to let a paused engine go on.

    """

    def __init__(self, engine: EngineClient, *, retry_seconds: float = 0.5) -> None:
        self._engine = engine
        self._retry_seconds = retry_seconds

    async def arm(self, markers: Markers | None) -> list[RankFacts]:
        """Tell the ranks the vocabulary, and prove that steering works as the engine serves.

        Args:
            markers: Markers of the thinking phase; None for a model without one.

        Raises:
            SteeringError: The plugin is not there, or the self-test failed.

        """
        ends = (markers.start, markers.end, markers.implicit) if markers else ((), (), ())
        closing = closing_tokens(self._engine.vllm_config) if markers else ()
        boundary = boundary_table(self._vocabulary())
        try:
            answers = await self._ask("arm", *map(list, (*ends, closing)), boundary)
            await self._ask("self_test")
        except Exception as error:
            raise SteeringError(
                f"steering does not work on this engine: {error} (start it with --no-steering to "
                "serve without it)"
            ) from error
        return [RankFacts(**answer) for answer in answers]

    async def residual_norms(self) -> dict[int, float]:
        """Norm of the residual stream at each layer, in a text that the model goes on with.

        Returns:
            The mean norm of the tokens by layer; empty where it cannot be measured.

        """
        engine = self._engine
        tokens = list(engine.renderer.get_tokenizer().encode(_TEXT))
        longest = engine.model_config.max_model_len
        tokens = tokens[: max(1, longest // 2)]
        tokens += await self._continued(tokens, min(_TOKENS, longest - len(tokens) - 1))
        # Its prompt is to be computed as a whole.
        await engine.reset_prefix_cache()
        await self._ask("measure", len(tokens))
        await self._continued(tokens, 1)
        measured = await self._ask("measured")
        return {layer: norm for rank in measured for layer, norm in rank}

    async def _continued(self, tokens: list[int], more: int) -> list[int]:
        """Let the model go on after some tokens, on the engine that answers our calls."""
        params = SamplingParams(
            max_tokens=more, seed=0, ignore_eos=True, output_kind=RequestOutputKind.FINAL_ONLY
        )
        parallel = self._engine.vllm_config.parallel_config
        rank = parallel.data_parallel_rank if parallel.data_parallel_size > 1 else None
        request_id = f"steersman-residual-norms-{more}"
        async for output in self._engine.generate(
            tokens_input(tokens), params, request_id, data_parallel_rank=rank
        ):
            written = output.outputs[0].token_ids
        return list(written)

    async def load(self, vector: Vector) -> None:
        """Put a vector on every rank, or on none.

        Raises:
            RankError: A rank has no room for it.

        """
        content = vector_file.write(vector)
        await self._ask_or("load", vector.digest, content, undo=("unload", vector.digest))

    async def unload(self, digest: str) -> None:
        """Remove a vector from every rank."""
        await self._ask("unload", digest)

    async def load_edit(self, edit: Edit) -> None:
        """Put an edit on offer to requests, on every rank or on none.

        Raises:
            RankError: A rank has no room for it.

        """
        content = edit_file.write(edit)
        await self._ask_or("load_edit", content, undo=("unload_edit", edit.digest))

    async def unload_edit(self, digest: str) -> None:
        """Take an edit off on every rank."""
        await self._ask("unload_edit", digest)

    async def apply_edits(self, edits: Sequence[Edit]) -> None:
        """Let the model's weights be the original ones with exactly these edits.

        Between two steps of the engine, on all ranks. Running requests stay, and are computed anew
        from their first token on; nothing of the prefix cache is left. Whatever is raised, all
        weights are as they were and the engine goes on.

        Raises:
            EditError: An edit does not fit the weights, or two edit one head.
            RankError: A rank has no room for the new weights.
            Exception: The engine could not be paused.

        """
        contents = [edit_file.write(edit) for edit in edits]
        try:
            await self._engine.pause_generation(mode="keep", clear_cache=True)
            await self._exchange_weights(contents)
        finally:
            await self._resume()

    async def _exchange_weights(self, contents: Sequence[bytes]) -> None:
        try:
            for refusal in await self._ask("prepare_edits", contents):
                if refusal is not None:
                    raise EditError(refusal["message"], field=refusal["field"])
            await self._ask("commit_edits")
        except BaseException:
            await self._clear_up("undo_edits")
            raise
        await self._clear_up("keep_edits")

    async def _resume(self) -> None:
        """Let the engine go on, however often that must be tried; a dead one cannot."""
        while True:
            try:
                await self._engine.resume_generation()
                return
            except Exception:
                if self._engine.errored:
                    return
                logger.exception("The engine is paused and does not go on: trying again")
            await asyncio.sleep(self._retry_seconds)

    async def _ask_or(self, name: str, *args: Any, undo: tuple[str, str]) -> None:
        """Call something that all ranks do, or none: where one fails, it is undone on all."""
        try:
            await self._ask(name, *args)
        except BaseException:
            await self._clear_up(*undo)
            raise

    async def _clear_up(self, name: str, *args: Any) -> None:
        """Make a call that follows on another, whose outcome it does not change."""
        try:
            await self._ask(name, *args)
        except Exception:
            logger.exception("%s failed", name)

    async def _ask(self, name: str, *args: Any) -> list[Any]:
        """The answers of all ranks, of each engine.

        Raises:
            RankError: One could not; by then all have answered.

        """
        answers = await collective_rpc(self._engine, ASK, (name, *args))
        for rank, answer in enumerate(answers):
            if "error" in answer:
                fault = " ".join(answer["error"].split())
                raise RankError(f"rank {rank} of {len(answers)}: {fault}", full=answer["full"])
        return [answer["value"] for answer in answers]

    def _vocabulary(self) -> list[str]:
        """The text of every token, empty for special ones."""
        tokenizer = self._engine.renderer.get_tokenizer()
        size = self._engine.model_config.get_vocab_size()
        known = range(min(size, len(tokenizer)))
        texts: list[str] = tokenizer.batch_decode([[i] for i in known], skip_special_tokens=True)
        return texts + [""] * (size - len(texts))
