"""What a worker answers to the front end: its part of loading vectors, arming and the self-test."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NoReturn, Protocol

import torch
from torch import Tensor

from steersman.edits import file
from steersman.edits.edit import EditError
from steersman.engine.batch import Arrival, Batch
from steersman.engine.controlled import Controlled
from steersman.engine.live import LiveEdits
from steersman.steering.configuration import Configuration, EditTerm, Term

_PROBE_REQUESTS = 8
_PROBE = "self-test"


class SelfTestError(RuntimeError):
    """Steering does not do what it must in the mode that serves."""


@dataclass(frozen=True, slots=True)
class RankFacts:
    """One rank's steering, as it says of itself.

    Attributes:
        runner: vLLM's model runner: V1 or V2.
        rows: Rows of the bank.
        bytes: Memory of the bank and the vectors, and of the rows for edits, on this rank.

    """

    runner: str
    rows: int
    bytes: int


class Measuring(Protocol):
    """Measures the residual stream in one forward pass, as `compat.residuals.Residuals` does."""

    def start(self, tokens: int) -> None: ...

    def take(self) -> dict[int, float]: ...


class Refused:
    """Stands for a ring on a rank that cannot steer: every call says why.

    Args:
        reason: One line.

    """

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def __getattr__(self, name: str) -> NoReturn:
        raise RuntimeError(self._reason)


class Ring:
    """The calls that `collective_rpc` makes on a rank. They take and return plain values.

    Args:
        controlled: The rank's steering, and its governor.
        runner: vLLM's model runner: V1 or V2.
        decode: Runs the model on a made-up decode batch of so many requests, in the mode that
            serves; the hidden states, [tokens, hidden_size], or None where they are not to be had.
        max_requests: Requests that a batch can have.
        live: The rank's weights, and the edits that they have; or why they cannot be edited.
        residuals: Measures the residual stream of this pipeline stage; None to measure nothing.

    """

    def __init__(
        self,
        controlled: Controlled,
        runner: str,
        decode: Callable[[int], Tensor | None],
        max_requests: int,
        live: LiveEdits | str,
        residuals: Measuring | None = None,
    ) -> None:
        self._controlled = controlled
        self._steering, self._governor = controlled.steering, controlled.governor
        self._runner = runner
        self._decode = decode
        self._live = live
        self._residuals = residuals
        self._probes = [f"{_PROBE}-{i}" for i in range(min(_PROBE_REQUESTS, max_requests))]

    def arm(
        self,
        start: Sequence[int],
        end: Sequence[int],
        closing: Sequence[int],
        stops: Sequence[int],
        boundary: bytes,
    ) -> dict[str, Any]:
        """Learn the vocabulary; say what this rank has.

        Args:
            start: Tokens that open the thinking phase; none for a model without one.
            end: Tokens that close it.
            closing: Tokens that are put in to close it.
            stops: Tokens each of which ends a response.
            boundary: A byte for each token: 1 if its text ends a line or a sentence.

        """
        single = len(start) == len(end) == 1
        self._steering.arm(start[0] if single else -1, end[0] if single else -1, boundary)
        self._governor.arm(start, end, closing, stops, boundary)
        return self.facts()

    def facts(self) -> dict[str, Any]:
        """`RankFacts`, as a dict."""
        bank, edits = self._steering.bank, self._steering.edits
        memory = bank.bytes + (edits.bytes if edits is not None else 0)
        return asdict(RankFacts(self._runner, bank.rows, memory))

    def measure(self, tokens: int) -> None:
        """Look at the residual stream of the next prompt, which has so many tokens."""
        if self._residuals is not None:
            self._residuals.start(tokens)

    def measured(self) -> list[tuple[int, float]]:
        """The norm of the residual stream at each layer of this stage; none if nothing was seen."""
        return list(self._residuals.take().items()) if self._residuals is not None else []

    def settle(self, key: str, choice: int) -> None:
        """The answer of a request is known: its thinking may close."""
        self._controlled.settle(key, choice)

    def load(self, digest: str, file: bytes) -> None:
        self._steering.load(digest, file)

    def unload(self, digest: str) -> None:
        self._steering.unload(digest)

    def load_edit(self, content: bytes) -> None:
        """Put an edit on offer to requests: its file."""
        if self._steering.edits is None:
            raise RuntimeError("this engine was started without rows for edits")
        self._steering.edits.load(file.read(content))

    def unload_edit(self, digest: str) -> None:
        """Take an edit off; no request has it any more."""
        assert self._steering.edits is not None
        self._steering.edits.unload(digest)

    def prepare_edits(self, contents: Sequence[bytes]) -> dict[str, Any] | None:
        """Compute the weights that these edits, and no others, make; what is wrong, if anything.

        Returns:
            The fields of an `EditError`, which would come through as text; None if all is well.

        """
        try:
            if isinstance(self._live, str):
                raise EditError(self._live, field="edit")
            self._live.prepare([file.read(content) for content in contents])
        except EditError as error:
            return {"message": error.message, "field": error.field}
        return None

    def commit_edits(self) -> None:
        """Let the model compute with the weights that were prepared last, on every rank."""
        assert isinstance(self._live, LiveEdits)
        self._live.commit()

    def self_test(self) -> None:
        """Steer every other request of a decode batch, in the mode that serves; then edit it.

        A pipeline stage whose output is not to be had passes.

        Raises:
            SelfTestError: A steered or an edited row did not change, or another one did.

        """
        plain = self._decode(len(self._probes))
        if plain is None:
            return
        bank, edits = self._steering.bank, self._steering.edits
        generator = torch.Generator().manual_seed(0)
        size = bank.storage.shape[2]
        bank.load(_PROBE, {layer: torch.randn(size, generator=generator) for layer in bank.layers})
        try:
            self._try(plain, Configuration.of((Term(_PROBE, 1.0),)), "steered")
        finally:
            bank.unload(_PROBE)
        if edits is None:
            return
        probe = edits.probe()
        edits.load(probe)
        try:
            self._try(plain, Configuration.of((), EditTerm(probe.digest, 1.0)), "edited")
        finally:
            edits.unload(probe.digest)

    def _try(self, plain: Tensor, configuration: Configuration, changed: str) -> None:
        """Compare a decode batch, every other request of it under a configuration, with `plain`."""
        control = {"origin": 1, "opened": False, "steering": configuration.wire(1)}
        for request_id in self._probes[::2]:
            self._steering.arrive(Arrival(request_id, control, token_ids=(), computed=0))
        try:
            self._steering.begin(self._batch())
            found = self._decode(len(self._probes))
        finally:
            self._leave()
        assert found is not None
        same = (plain == found) | (plain.isnan() & found.isnan())
        if bool(same[::2].all(dim=1).any()):
            raise SelfTestError(f"a row that is {changed} did not change")
        if not bool(same[1::2].all()):
            raise SelfTestError(f"a row that is not {changed} changed")

    def _batch(self) -> Batch:
        """A step in which each probe reads its first generated token."""
        device, size = self._steering.rows.slot.device, len(self._probes)
        return Batch(
            self._probes,
            query_start=torch.arange(size + 1, dtype=torch.int32, device=device),
            positions=torch.ones(size, dtype=torch.int64, device=device),
            token_ids=torch.zeros(size, dtype=torch.int32, device=device),
            tokens=size,
        )

    def _leave(self) -> None:
        self._steering.counted()  # or the next step would report it
        for request_id in self._probes[::2]:
            self._steering.finish(request_id)
        self._steering.rest()
