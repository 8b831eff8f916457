"""Planning of a request's steering terms: checked, and completed from the vector files."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from steersman.artifacts.artifact import ArtifactError
from steersman.capabilities import Capabilities
from steersman.edits.edit import Edit
from steersman.errors import ControlError
from steersman.steering.bound import Bound
from steersman.steering.configuration import Configuration, EditTerm, Term
from steersman.vectors.vector import Vector, VectorError
from steersman_client import AppliedSteer, AppliedThinkEdit, Steer, ThinkEdit

MAX_EDIT_AMOUNT = 16.0
"""Weight times strength of a request's edit. An edit takes that many times the heads' part along
its direction away: 1 removes it, 2 turns it round. Published edits have 1; by 16 heads write
fifteen times as much as ever, in the other direction."""


class Vectors(Protocol):
    """Vectors of the server, by name."""

    def get(self, name: str) -> Vector:
        """The vector of a name.

        Raises:
            ArtifactError: There is none; the message says which there are.

        """
        ...


class NoVectors:
    """The vectors of a server without steering."""

    def get(self, name: str) -> Vector:
        raise VectorError(f"unknown vector {name!r}; this server has none", field="vector")


class Edits(Protocol):
    """Edits that a request can choose, by name."""

    def get(self, name: str) -> Edit:
        """The edit of a name.

        Raises:
            ArtifactError: There is none, and the message says which there are; or it is live.

        """
        ...


@dataclass(frozen=True, slots=True)
class PlannedEdit:
    """Request edit: its name in the request, the edit, and its strength."""

    name: str
    edit: Edit
    strength: float

    def applied(self, tokens: int) -> AppliedThinkEdit:
        """Its entry in the receipt, once the engine has counted."""
        return AppliedThinkEdit(
            edit=self.name,
            digest=self.edit.digest[:16],
            strength=self.strength,
            heads=self.edit.heads,
            tokens=tokens,
        )


@dataclass(frozen=True, slots=True)
class PlannedTerm:
    """One term: the client's name for the vector, the vector, and its resolved fields."""

    name: str
    vector: Vector
    term: Term

    def applied(self, tokens: int) -> AppliedSteer:
        """Its entry in the receipt, once the engine has counted."""
        layers = self.term.layers
        return AppliedSteer(
            vector=self.name,
            digest=self.vector.digest[:16],
            layers=tuple(sorted(self.vector.layers)) if layers is None else layers,
            strength=self.term.strength,
            phase=self.term.phase,
            at=self.term.at,
            prompt=self.term.prompt,
            tokens=tokens,
            warning=self._warning(),
        )

    def _warning(self) -> str | None:
        wanted = self.vector.metadata.strength_range
        if wanted is None or wanted[0] <= self.term.strength <= wanted[1]:
            return None
        return (
            f"strength {self.term.strength:g} is outside the range {wanted[0]:g} to {wanted[1]:g} "
            "that the vector was made for"
        )


@dataclass(frozen=True, slots=True)
class Steering:
    """The steering of a request, and its edit.

    Attributes:
        terms: In the order of the request.
        configuration: The configuration that the engine gets.
        edit: The edit; None for none.
        balance: The term whose strength follows the thinking; None for none. It is none of `terms`.

    """

    terms: tuple[PlannedTerm, ...]
    configuration: Configuration
    edit: PlannedEdit | None = None
    balance: PlannedTerm | None = None

    @property
    def vectors(self) -> tuple[Vector, ...]:
        balanced = () if self.balance is None else (self.balance,)
        return tuple(planned.vector for planned in (*self.terms, *balanced))

    @property
    def edits(self) -> tuple[Edit, ...]:
        return (self.edit.edit,) if self.edit else ()

    @property
    def rows(self) -> tuple[str, ...]:
        """Digests of the rows that it needs in the engine's bank."""
        return tuple(item.digest for item in self.configuration.sums)


def plan(
    terms: Sequence[Steer],
    vectors: Vectors,
    capabilities: Capabilities,
    thinkedit: ThinkEdit | None = None,
    edits: Edits | None = None,
    balance: PlannedTerm | None = None,
    law: str | None = None,
) -> Steering | None:
    """The steering that a request asks for, and its edit; None if it asks for neither.

    Args:
        terms: The request's terms.
        vectors: Where their vectors are found.
        capabilities: The server's methods and limits.
        thinkedit: The request's edit.
        edits: Where that is found.
        balance: A term, already planned, whose strength follows the thinking.
        law: Digest of the law by which it does.

    Raises:
        ControlError: A term or an edit that cannot be applied.

    """
    if not terms and thinkedit is None and balance is None:
        return None
    limit = capabilities.limits.max_steer_terms
    if len(terms) > limit:
        raise ControlError(
            f"{len(terms)} terms are over this server's limit of {limit}", param="control.steer"
        )
    planned = tuple(
        _term(steer, vectors, capabilities, f"control.steer[{index}]")
        for index, steer in enumerate(terms)
    )
    if balance is not None:
        _check_alone(planned)
    _check_bound(planned, balance, capabilities)
    edit = _edit(thinkedit, edits) if thinkedit else None
    edit_term = EditTerm(edit.edit.digest, edit.strength) if edit else None
    balanced = () if balance is None else (balance,)
    configuration = Configuration.of(
        tuple(item.term for item in (*planned, *balanced)), edit_term, law
    )
    assert capabilities.steering is not None
    if len(configuration.sums) > capabilities.steering.rows:
        raise ControlError(
            f"these terms need {len(configuration.sums)} rows of the steering bank, which has "
            f"{capabilities.steering.rows}",
            param="control.steer",
        )
    return Steering(planned, configuration, edit, balance)


def _check_bound(
    planned: Sequence[PlannedTerm], balance: PlannedTerm | None, capabilities: Capabilities
) -> None:
    """Refuse terms that add up to too much at a layer; a balanced one at its strongest."""
    steering = capabilities.steering
    assert steering is not None
    terms = [(item, f"control.steer[{index}].strength") for index, item in enumerate(planned)]
    if balance is not None:
        strongest = max(map(abs, balance.vector.metadata.strength_range or (0.0,)))
        term = replace(balance.term, strength=strongest)
        terms.append((replace(balance, term=term), "control.thinking.balance.vector"))
    limit = capabilities.limits.max_steering_norm
    Bound(limit, steering.residual_norms, steering.dtype).check(terms)


def _check_alone(planned: Sequence[PlannedTerm]) -> None:
    """Refuse terms for tokens that a balanced vector is added to.

    The engine has one coefficient a token: it would move them as well.
    """
    for index, item in enumerate(planned):
        if item.term.phase != "answer":
            raise ControlError(
                "balance moves the strength of everything that is steered while thinking: steer "
                f"only the answer beside it, not phase {item.term.phase!r}",
                param=f"control.steer[{index}].phase",
            )


def _edit(thinkedit: ThinkEdit, edits: Edits | None) -> PlannedEdit:
    assert edits is not None
    try:
        edit = edits.get(thinkedit.edit)
    except ArtifactError as error:
        raise ControlError(error.message, param="control.thinkedit.edit") from error
    weight = edit.metadata.weight
    if not abs(weight * thinkedit.strength) <= MAX_EDIT_AMOUNT:
        most = MAX_EDIT_AMOUNT / abs(weight)
        raise ControlError(
            f"strength {thinkedit.strength:g} times the edit's weight {weight:g} is beyond "
            f"{MAX_EDIT_AMOUNT:g}: {-most:g} to {most:g} is allowed",
            param="control.thinkedit.strength",
        )
    return PlannedEdit(thinkedit.edit, edit, thinkedit.strength)


def _term(steer: Steer, vectors: Vectors, capabilities: Capabilities, param: str) -> PlannedTerm:
    try:
        vector = vectors.get(steer.vector)
    except ArtifactError as error:
        raise ControlError(error.message, param=f"{param}.vector") from error
    defaults = vector.metadata
    term = Term(
        vector=vector.digest,
        strength=defaults.strength if steer.strength is None else steer.strength,
        layers=defaults.layers if steer.layers is None else _layers(steer.layers, vector, param),
        phase=steer.phase or defaults.phase,
        at=steer.at or defaults.at,
        prompt=steer.prompt,
    )
    if term.phase != "all":
        capabilities.markers(f"phase {term.phase!r}", f"{param}.phase")
    return PlannedTerm(steer.vector, vector, term)


def _layers(layers: tuple[int, ...], vector: Vector, param: str) -> tuple[int, ...]:
    if not layers:
        raise ControlError("an empty list steers no layer", param=f"{param}.layers")
    for index, layer in enumerate(layers):
        if layer not in vector.layers:
            raise ControlError(
                f"the vector has no layer {layer}; it has: {_ranges(vector.layers)}",
                param=f"{param}.layers[{index}]",
            )
        if layer in layers[:index]:
            raise ControlError(f"layer {layer} is named twice", param=f"{param}.layers[{index}]")
    return tuple(sorted(layers))


def _ranges(numbers: Iterable[int]) -> str:
    """Sorted numbers for a message: 0-3, 7."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ", ".join("-".join(map(str, run)) for run in runs)
