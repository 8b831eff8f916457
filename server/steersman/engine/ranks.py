"""All ranks of the engine, as the front end speaks to them."""

from collections.abc import Sequence
from typing import Any

from vllm.engine.protocol import EngineClient
from vllm.inputs import tokens_input
from vllm.sampling_params import RequestOutputKind, SamplingParams

from steersman.edits import file as edit_file
from steersman.edits.edit import Edit, EditError
from steersman.engine.describe import closing_tokens, stop_tokens
from steersman.engine.plugin import RPC
from steersman.engine.ring import RankFacts
from steersman.trajectory.boundaries import boundary_table
from steersman.trajectory.phases import Markers
from steersman.vectors import file as vector_file
from steersman.vectors.vector import Vector

_TEXT = "Question: What is 17 * 24 - 9? Let us think step by step."
_TOKENS = 64
"""The model's own tokens, after the text, in which the residual stream is measured."""


class SteeringError(Exception):
    """Steering cannot work on this engine; the server must not start."""


class Ranks:
    """Calls on every rank. They wait for the engine's current step.

    Args:
        engine: vLLM's engine client.

    """

    def __init__(self, engine: EngineClient) -> None:
        self._engine = engine

    async def arm(self, markers: Markers | None) -> list[RankFacts]:
        """Tell the ranks the vocabulary, and prove that steering works as the engine serves.

        Args:
            markers: Those of the thinking phase; None for a model without one.

        Raises:
            SteeringError: The plugin is not there, or the self-test failed.

        """
        start, end = (markers.start, markers.end) if markers else ((), ())
        closing = closing_tokens(self._engine.vllm_config) if markers else ()
        stops = stop_tokens(self._engine.model_config, self._engine.renderer.get_tokenizer())
        boundary = boundary_table(self._vocabulary())
        try:
            answers = await self._call(
                "arm", list(start), list(end), list(closing), list(stops), boundary
            )
            await self._call("self_test")
        except Exception as error:
            raise SteeringError(
                f"steering does not work on this engine: {error} (start it with --no-steering to "
                "serve without it)"
            ) from error
        return [RankFacts(**answer) for answer in answers]

    async def residual_norms(self) -> dict[int, float]:
        """How large the residual stream is at each layer, in a text that the model goes on with.

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
        await self._call("measure", len(tokens))
        await self._continued(tokens, 1)
        measured = await self._call("measured")
        return {layer: norm for rank in measured for layer, norm in rank}

    async def _continued(self, tokens: list[int], more: int) -> list[int]:
        """What the model writes after some tokens, on the engine that answers our calls."""
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
        """Put a vector on every rank."""
        await self._call("load", vector.digest, vector_file.write(vector))

    async def unload(self, digest: str) -> None:
        """Remove a vector from every rank."""
        await self._call("unload", digest)

    async def load_edit(self, edit: Edit) -> None:
        """Put an edit on offer to requests, on every rank."""
        await self._call("load_edit", edit_file.write(edit))

    async def unload_edit(self, digest: str) -> None:
        """Take an edit off on every rank."""
        await self._call("unload_edit", digest)

    async def apply_edits(self, edits: Sequence[Edit]) -> None:
        """Let the model's weights be the original ones with exactly these edits.

        Between two steps of the engine, on all ranks. Running requests stay, and are computed anew
        from their first token on; nothing of the prefix cache is left.

        Raises:
            EditError: An edit does not fit the weights, or two edit one head; all is as it was.

        """
        contents = [edit_file.write(edit) for edit in edits]
        await self._engine.pause_generation(mode="keep", clear_cache=True)
        try:
            for refusal in await self._call("prepare_edits", contents):
                if refusal is not None:
                    raise EditError(refusal["message"], field=refusal["field"])
            await self._call("commit_edits")
        finally:
            await self._engine.resume_generation()

    async def _call(self, name: str, *args: Any) -> list[Any]:
        answers: list[Any] = await self._engine.collective_rpc(RPC, args=(name, *args))
        return answers

    def _vocabulary(self) -> list[str]:
        """The text of every token, empty for special ones."""
        tokenizer = self._engine.renderer.get_tokenizer()
        size = self._engine.model_config.get_vocab_size()
        known = range(min(size, len(tokenizer)))
        texts: list[str] = tokenizer.batch_decode([[i] for i in known], skip_special_tokens=True)
        return texts + [""] * (size - len(texts))
