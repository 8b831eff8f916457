"""A steering configuration: which sum of vectors is added to which class of tokens.

Every token of a request belongs to one of six classes: prompt, thinking or answer, and within each
whether the token ends a line or a sentence. A term of a request applies to some of the classes; all
terms that apply to a class are one sum, however many they are, and equal sums are one sum. So a
request costs the engine one row a layer for each *distinct* sum, which is nearly always one.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Literal, Self

from steersman.wire import SteeringMessage
from steersman_kernels.layout import CLASSES

Phase = Literal["all", "thinking", "answer"]
Place = Literal["all", "boundary"]


@dataclass(frozen=True, slots=True)
class Term:
    """`strength * vector`, added at the output of some layers for some tokens.

    Attributes:
        vector: Digest of the vector.
        strength: Multiplier, in the unit of the vector.
        layers: Decoder layers; None for all that the vector has.
        phase: Phase of the generated tokens that it applies to.
        at: All of them, or those that end a line or a sentence.
        prompt: Whether the prompt's tokens are steered as well.

    """

    vector: str
    strength: float
    layers: tuple[int, ...] | None = None
    phase: Phase = "all"
    at: Place = "all"
    prompt: bool = False

    def applies(self, part: str, boundary: bool) -> bool:
        """True if this term steers tokens of a class."""
        if self.strength == 0 or (self.at == "boundary" and not boundary):
            return False
        return self.prompt if part == "prompt" else self.phase in ("all", part)


@dataclass(frozen=True, slots=True)
class Sum:
    """One row of the bank: the sum of some scaled vectors.

    Attributes:
        addends: Digest of the vector, strength and layers of each.
        digest: Identifies the sum.

    """

    addends: tuple[tuple[str, float, tuple[int, ...] | None], ...]
    digest: str

    @classmethod
    def of(cls, terms: tuple[Term, ...]) -> Self:
        addends = tuple((term.vector, term.strength, term.layers) for term in terms)
        return cls(addends, _digest(addends))


@dataclass(frozen=True, slots=True)
class EditTerm:
    """An edit of the weights that one request has: for all its tokens, the prompt's included.

    Attributes:
        edit: Digest of the edit.
        strength: Multiplier of the edit's own weight.

    """

    edit: str
    strength: float


@dataclass(frozen=True, slots=True)
class Configuration:
    """Steering and edit of one request, as the engine needs them.

    Attributes:
        digest: Identifies the configuration. Requests that differ in it share no steered block of
            the prefix cache.
        sums: The distinct sums.
        rows: For each of `CLASSES` the index of its sum; -1 where nothing is added.
        prompt: Whether any token of the prompt may be steered or edited.
        edit: The request's edit; None without one.

    """

    digest: str
    sums: tuple[Sum, ...]
    rows: tuple[int, ...]
    prompt: bool
    edit: EditTerm | None = None

    @classmethod
    def of(
        cls, terms: tuple[Term, ...], edit: EditTerm | None = None, law: str | None = None
    ) -> Self:
        """The configuration of a request's terms, and of its edit.

        Args:
            terms: The terms.
            edit: The request's edit.
            law: Digest of the law that moves a term's strength. It is in the configuration's own.

        """
        sums: dict[str, Sum] = {}
        rows: list[int] = []
        for part, boundary in CLASSES:
            applied = tuple(term for term in terms if term.applies(part, boundary))
            if not applied:
                rows.append(-1)
                continue
            added = Sum.of(applied)
            sums.setdefault(added.digest, added)
            rows.append(list(sums).index(added.digest))
        addends = [(item.digest, *item.addends) for item in sums.values()]
        steers_prompt = any(
            row >= 0 for row, (part, _) in zip(rows, CLASSES, strict=True) if part == "prompt"
        )
        edited = [] if edit is None else [edit.edit, edit.strength]
        return cls(
            digest=_digest([addends, rows, *edited, *([] if law is None else [law])]),
            sums=tuple(sums.values()),
            rows=tuple(rows),
            prompt=steers_prompt or edit is not None,
            edit=edit,
        )

    def message(self, origin: int) -> SteeringMessage:
        """The form in which it travels with a request.

        Args:
            origin: Tokens of the prompt.

        """
        return SteeringMessage(
            digest=self.digest,
            first=0 if self.prompt else origin,
            sums=tuple((item.digest, item.addends) for item in self.sums),
            rows=self.rows,
            edit=None if self.edit is None else (self.edit.edit, self.edit.strength),
        )


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
