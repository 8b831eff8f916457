"""Calls of the front end that a worker answers: loading vectors, arming and the self-test."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, NoReturn, Protocol

import torch
from torch import Tensor

from steersman.edits import file
from steersman.edits.edit import EditError
from steersman.engine.batch import Arrival, Batch
from steersman.engine.controlled import Controlled
from steersman.engine.live import LiveEdits
from steersman.steering.configuration import Configuration, EditTerm, Term
from steersman.wire import RequestMessage
from steersman_kernels.layout import MARKER_TOKENS
from steersman_kernels.vocabulary import Vocabulary

_PROBE = "self-test"
_PROBE_REQUESTS = 8
_CHANGED = (0, 3, 5, 6)
"""The probes that the self-test changes, each in its own way. Nothing in these rows repeats
itself: rows that are shifted, or a rank's part of them, never look like the whole."""
_PLAIN_RUNS = 3
_NOISE = 2.0
"""How far a row may move that must not change, in multiples of the widest gap of plain runs."""


class SelfTestError(RuntimeError):
    """Steering fails its self-test in the mode that serves."""


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
        self._changed = [row for row in _CHANGED if row < len(self._probes)]

    def arm(
        self,
        start: Sequence[int],
        end: Sequence[int],
        implicit: Sequence[int],
        closing: Sequence[int],
        boundary: bytes,
    ) -> dict[str, Any]:
        """Learn the vocabulary; return the facts of this rank.

        Args:
            start: Tokens that open the thinking phase; none for a model without one.
            end: Tokens that close it.
            implicit: Tokens each of which closes it too, as the first of the answer.
            closing: Tokens that are put in to close it.
            boundary: A byte for each token: 1 if its text ends a line or a sentence.

        """
        if max(len(start), len(end), len(closing)) > MARKER_TOKENS:
            raise ValueError(f"thinking markers of more than {MARKER_TOKENS} tokens")
        vocabulary = Vocabulary.of(start, end, implicit, closing, boundary)
        self._steering.arm(vocabulary)
        self._governor.arm(vocabulary)
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

    def settle(self, key: str, choice: int | None) -> None:
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
        """Take an edit off, if it is there; no request has it any more."""
        if self._steering.edits is not None:
            self._steering.edits.unload(digest)

    def prepare_edits(self, contents: Sequence[bytes]) -> dict[str, Any] | None:
        """Compute the weights that these edits, and no others, make; return the fault, if any.

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

    def undo_edits(self) -> None:
        """Take back the last `commit_edits` and `prepare_edits`, whichever of them were done."""
        if isinstance(self._live, LiveEdits):
            self._live.undo()

    def keep_edits(self) -> None:
        """Keep the weights that every rank has committed: there is no way back."""
        assert isinstance(self._live, LiveEdits)
        self._live.keep()

    def self_test(self) -> None:
        """Steer some requests of a decode batch, in the mode that serves; then edit them.

        A pipeline stage whose output is not to be had passes.

        Raises:
            SelfTestError: A steered or an edited row did not change, or as another one did, or a
                row changed that had to stay: by a single bit where plain runs are all alike.

        """
        plain = _Plain.of([self._decode(len(self._probes)) for _ in range(_PLAIN_RUNS)])
        if plain is None:
            return
        bank, edits = self._steering.bank, self._steering.edits
        generator = torch.Generator().manual_seed(0)
        size = bank.storage.shape[2]
        steered = {row: f"{_PROBE}-{row}" for row in self._changed}
        for digest in steered.values():
            noise = {layer: torch.randn(size, generator=generator) for layer in bank.layers}
            bank.load(digest, noise)
        try:
            terms = {row: Term(digest, 1.0) for row, digest in steered.items()}
            asked = {row: Configuration.of((term,)) for row, term in terms.items()}
            self._try(plain, asked, "steered")
        finally:
            for digest in steered.values():
                bank.unload(digest)
        if edits is None:
            return
        probe = edits.probe()
        edits.load(probe)
        edited = {
            row: Configuration.of((), EditTerm(probe.digest, 1.0 + number))
            for number, row in enumerate(self._changed)
        }
        try:
            self._try(plain, edited, "edited")
        finally:
            edits.unload(probe.digest)

    def _try(self, plain: "_Plain", asked: Mapping[int, Configuration], changed: str) -> None:
        """Compare a decode batch, some requests of which have configurations, with plain ones."""
        for row, configuration in asked.items():
            message = RequestMessage(origin=1, steering=configuration.message(1))
            request_id = self._probes[row]
            self._steering.arrive(Arrival(request_id, message, token_ids=(), computed=0))
        try:
            self._steering.begin(self._batch())
            found = self._decode(len(self._probes))
        finally:
            self._leave()
        assert found is not None
        same = plain.same(plain.run, found)
        if any(same[row] for row in asked):
            raise SelfTestError(f"a row that is {changed} did not change")
        if not all(same[row] for row in range(len(self._probes)) if row not in asked):
            raise SelfTestError(f"a row that is not {changed} changed")
        for one, other in combinations(asked, 2):
            if plain.same(found[one : one + 1], found[other : other + 1])[0]:
                raise SelfTestError(f"a row was {changed} as another one should be")

    def _batch(self) -> Batch:
        """A step in which each probe reads its first generated token."""
        device, size = self._steering.rows.bank_rows.device, len(self._probes)
        return Batch(
            self._probes,
            query_start=torch.arange(size + 1, dtype=torch.int32, device=device),
            positions=torch.ones(size, dtype=torch.int64, device=device),
            token_ids=torch.zeros(size, dtype=torch.int32, device=device),
            tokens=size,
        )

    def _leave(self) -> None:
        self._steering.counted()  # or the next step would report it
        for row in self._changed:
            self._steering.finish(self._probes[row])
        self._steering.rest()


@dataclass(frozen=True, slots=True)
class _Plain:
    """The self-test's batch as it is without any change.

    Attributes:
        run: [tokens, hidden_size], one run of it.
        noise: How far two runs of it may be apart: sums on a GPU, and the experts of a mixture, may
            add up in another order each time.

    """

    run: Tensor
    noise: float

    @classmethod
    def of(cls, runs: Sequence[Tensor | None]) -> "_Plain | None":
        """From several runs; None if their outputs are not to be had."""
        known = [run for run in runs if run is not None]
        if not known:
            return None
        gaps = [(one.float() - other.float()).abs() for one, other in combinations(known, 2)]
        widest = max(float(gap.nan_to_num(nan=0.0, posinf=0.0).max()) for gap in gaps)
        return cls(known[0], _NOISE * widest)

    def same(self, one: Tensor, other: Tensor) -> list[bool]:
        """Of each row of two runs: whether they differ by no more than the noise."""
        near = (one.float() - other.float()).abs() <= self.noise
        alike = (one == other) | (one.isnan() & other.isnan()) | near
        return [bool(row) for row in alike.all(dim=1).tolist()]
