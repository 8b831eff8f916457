"""Steering at the start of a server: proven on the engine, its vectors and edits in place."""

import logging
from pathlib import Path
from typing import Protocol

from vllm.engine.protocol import EngineClient

from steersman.artifacts.store import Store
from steersman.capabilities import Capabilities, Methods, Steering
from steersman.edits.edit import Edit, EditError
from steersman.edits.store import EDITS, ChoosableEdits, LiveEdits
from steersman.following import Follower
from steersman.frontend.ranks import Ranks
from steersman.options import SteeringOptions
from steersman.steering.admission import Admission
from steersman.steering.desk import Desk
from steersman.vectors.store import VECTORS
from steersman.vectors.vector import model_digest

logger = logging.getLogger(__name__)


async def open_desk(
    engine: EngineClient, capabilities: Capabilities, options: SteeringOptions, follower: Follower
) -> tuple[Capabilities, Desk]:
    """Prove that steering works, and put vectors and edits in their places.

    Directories that are followed are left to the follower.

    Returns:
        The capabilities with steering in them, and what requests take of it.

    Raises:
        steersman.frontend.ranks.SteeringError: Steering does not work on this engine.
        steersman.artifacts.artifact.ArtifactError: A file that this server cannot use.

    """
    ranks = Ranks(engine)
    facts = await ranks.arm(capabilities.thinking_tokens)
    norms = await ranks.residual_norms()
    if len(norms) < capabilities.model.layers:
        logger.warning(
            "The residual stream cannot be measured on this engine: only vectors whose files say "
            "its norms are bounded by --max-steering-norm"
        )
        norms = {}
    steering = Steering(
        rows=options.rows,
        bytes=max(rank.bytes for rank in facts),
        runner=facts[0].runner,
        model_digest=model_digest(capabilities.model),
        edit_rows=options.edit_rows,
        dtype=str(engine.model_config.dtype).removeprefix("torch."),
        residual_norms=norms,
    )
    logger.info(
        "Steering is proven: %d rows, %.1f MiB a rank, model runner %s",
        steering.rows,
        steering.bytes / 2**20,
        steering.runner,
    )
    model = capabilities.model
    vectors = Store(
        VECTORS,
        model,
        ranks,
        options.vectors,
        _shipped(options, "vectors"),
        max_bytes=options.max_bytes,
    )
    await vectors.load_directories(followed=follower.on)
    if options.vectors:
        follower.add("vectors", vectors.follow)
    live = LiveEdits(model, ranks.apply_edits, options.live_directory, max_bytes=options.max_bytes)
    await live.load(options.live_edits)
    if options.live_directory:
        follower.add("live_edits", live.follow)
        if not follower.on:
            await live.load_directory()
    edits = None
    if options.edit_rows:
        edits = Store(
            EDITS,
            model,
            EditRows(ranks, options.engine_edit_rows),
            options.edits,
            _shipped(options, "edits"),
            max_bytes=options.max_bytes,
            max_entries=options.edit_rows,
        )
        await edits.load_directories(followed=follower.on)
        choosable = ChoosableEdits(edits, live)
        for fault in choosable.live_anyway:
            raise EditError(fault, field="name")
        if options.edits:
            follower.add("edits", choosable.follow)
    methods = Methods(
        steer=("add",),
        thinkedit=("project",) if edits is not None else (),
        thinking=thinking_methods(engine),
        monitor=("entropy",),
        sampler=capabilities.methods.sampler,
        search=capabilities.methods.search,
    )
    known = capabilities.model_copy(update={"steering": steering, "methods": methods})
    admission = Admission(options.rows, wait_seconds=options.wait_seconds)
    return known, Desk(vectors, admission, live, edits)


def _shipped(options: SteeringOptions, kind: str) -> Path | None:
    if options.shipped is None or not (options.shipped / kind).is_dir():
        return None
    return options.shipped / kind


def thinking_methods(engine: EngineClient) -> tuple[str, ...]:
    """Methods of the governor: only the last pipeline stage knows what moves a strength."""
    stages = engine.vllm_config.parallel_config.pipeline_parallel_size
    return ("budget", "min", "exit", "certainty", "loop", *(("balance",) if stages == 1 else ()))


class RowHost(Protocol):
    """The ranks, as far as edits on offer go."""

    async def load_edit(self, edit: Edit) -> None:
        """Put an edit into a row on every rank."""
        ...

    async def unload_edit(self, digest: str) -> None:
        """Free an edit's row on every rank."""
        ...


class EditRows:
    """The rows for edits of all ranks, as a store puts edits there.

    Args:
        ranks: All ranks.
        rows: Edits that fit there.

    """

    def __init__(self, ranks: RowHost, rows: int) -> None:
        self._ranks = ranks
        self._rows = rows
        self._taken: set[str] = set()
        self._stuck: set[str] = set()  # the engine did not say that they are off

    async def load(self, edit: Edit) -> None:
        """Put an edit on every rank.

        Raises:
            EditError: Requests still use what was replaced or deleted, and no row is free.

        """
        if self._full_for(edit.digest):
            for digest in self._stuck - {edit.digest}:
                await self.unload(digest)
        if self._full_for(edit.digest):
            raise EditError(
                "edits that were replaced or deleted are still used by requests: try again when "
                "these have ended",
                field="name",
            )
        await self._ranks.load_edit(edit)
        self._taken.add(edit.digest)
        self._stuck.discard(edit.digest)

    def _full_for(self, digest: str) -> bool:
        return len(self._taken | {digest}) > self._rows

    async def unload(self, digest: str) -> None:
        """Remove an edit from every rank; where that fails, its row stays taken for now."""
        self._stuck.add(digest)
        await self._ranks.unload_edit(digest)
        self._stuck.discard(digest)
        self._taken.discard(digest)
