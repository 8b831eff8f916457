"""The bound on steering: how much of its own size the residual stream may be moved by.

A vector far larger than the residual stream overflows in some layer, and what overflows stays in
the KV cache. So a request's terms are bounded by what they add up to: at each layer, for each class
of tokens, the norm of their sum may be some multiple of the residual stream's own.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn, Protocol

import numpy as np
from numpy.typing import NDArray

from steersman.errors import ControlError
from steersman.steering.configuration import Term
from steersman.vectors.vector import Vector
from steersman_kernels.layout import CLASSES

LARGEST = {"float32": 3.4028234e38, "bfloat16": 3.3895313e38, "float16": 65504.0}
"""The largest number of each dtype that a residual stream has."""

_STRONGEST = LARGEST["float32"]
"""The largest strength: sums are computed in float32."""

Float64s = NDArray[np.float64]

_ROOM = 0.5
"""Share of that which a sum may have: the rest is the residual stream's."""


class Weighed(Protocol):
    """A term of a request, with its vector."""

    @property
    def vector(self) -> Vector: ...

    @property
    def term(self) -> Term: ...


@dataclass(frozen=True, slots=True)
class Bound:
    """The bound on the sums that steering adds.

    Attributes:
        max_norm: Norm of a sum, in multiples of the residual stream's at the same layer.
        residual_norms: Norm of the residual stream by layer, as measured on this engine; layers
            that are not there go by what the vectors' files say, and else have no such bound.
        dtype: Number type of the residual stream; a sum must be finite in it.

    """

    max_norm: float
    residual_norms: Mapping[int, float]
    dtype: str

    def check(self, terms: "Applied") -> None:
        """Refuse terms that add too much.

        Args:
            terms: The terms, and the request field of each one's strength.

        Raises:
            ControlError: The sum of some of them is beyond the bound at a layer. The field is that
                of the largest of these, at the layer where it is furthest beyond.

        """
        worst = max(map(self._furthest, _sums(terms)), default=(0.0, ""))
        if worst[0] <= 1:
            return
        for applied, layer in _sums(terms):
            if self._furthest((applied, layer)) == worst:
                self._refuse(applied, layer, worst[1], terms)

    def _furthest(self, place: "Place") -> tuple[float, str]:
        """The norm of a sum in multiples of its bound, and the reason for the bound."""
        applied, layer = place
        sizes = [_size(item, layer) for item, _ in applied]
        finite, limit = LARGEST[self.dtype] * _ROOM, self._limit(applied, layer)
        strongest = max(abs(item.term.strength) for item, _ in applied)
        if strongest > _STRONGEST:
            return math.inf, f"is not finite in this model's {self.dtype}"
        if not sum(sizes) <= finite:
            return sum(sizes) / finite, f"is not finite in this model's {self.dtype}"
        if sum(sizes) <= limit:
            return 0.0, ""
        # The terms may work against each other.
        norm = float(np.linalg.norm(sum(_added(item, layer) for item, _ in applied)))
        times = norm / limit * self.max_norm if limit else math.inf
        return norm / limit if limit else math.inf, (
            f"adds {times:.4g} times the norm of the residual stream, of which this server allows "
            f"{self.max_norm:g} (--max-steering-norm)"
        )

    def _limit(self, applied: "Applied", layer: int) -> float:
        """Norm that a sum may have at a layer, of whose size somebody must know."""
        said = (item.vector.metadata.residual_norms or {} for item, _ in applied)
        known = (norms[layer] for norms in (self.residual_norms, *said) if layer in norms)
        return self.max_norm * next(known, math.inf)

    def _refuse(self, applied: "Applied", layer: int, reason: str, terms: "Applied") -> NoReturn:
        item, param = max(applied, key=lambda one: _size(one[0], layer))
        low, high = self._allowed(item, terms)
        beside = f", with {len(applied) - 1} more," if len(applied) > 1 else ""
        allowed = f"{low:.6g} to {high:.6g} is allowed"
        if not low <= high:
            allowed = "no strength of it is allowed beside the others"
        raise ControlError(
            f"strength {item.term.strength:g}{beside} {reason} at layer {layer}: {allowed}",
            param=param,
        )

    def _allowed(self, item: Weighed, terms: "Applied") -> tuple[float, float]:
        """The strengths of a term that would pass beside the others."""
        low, high = -_STRONGEST, _STRONGEST
        for applied, layer in _sums(terms):
            if not any(one is item for one, _ in applied) or layer not in _layers(item):
                continue
            others = sum(_added(one, layer) for one, _ in applied if one is not item)
            limit = min(self._limit(applied, layer), LARGEST[self.dtype] * _ROOM)
            lowest, highest = _interval(_values(item, layer), others, limit)
            low, high = max(low, lowest), min(high, highest)
        # Written with six digits, they must still pass.
        return low + abs(low) * 1e-5, high - abs(high) * 1e-5


Applied = Sequence[tuple[Weighed, str]]
"""Terms, each with the request field of its strength."""

Place = tuple[Applied, int]
"""Terms that are added to the same tokens, at a layer that each of them has."""


def _sums(terms: Applied) -> list[Place]:
    """The distinct sums of some terms, over classes of tokens and layers."""
    classes = {
        tuple(i for i, (item, _) in enumerate(terms) if item.term.applies(segment, boundary))
        for segment, boundary in CLASSES
    }
    return [
        ([terms[i] for i in chosen if layer in _layers(terms[i][0])], layer)
        for chosen in sorted(classes)
        for layer in sorted({layer for i in chosen for layer in _layers(terms[i][0])})
    ]


def _layers(item: Weighed) -> Collection[int]:
    return item.vector.layers if item.term.layers is None else item.term.layers


def _size(item: Weighed, layer: int) -> float:
    return abs(item.term.strength) * item.vector.norms[layer]


def _values(item: Weighed, layer: int) -> Float64s:
    return item.vector.layers[layer].astype(np.float64)


def _added(item: Weighed, layer: int) -> Float64s:
    return item.term.strength * _values(item, layer)


def _interval(vector: Float64s, others: Float64s | int, limit: float) -> tuple[float, float]:
    """The strengths s with |others + s * vector| within the limit; none if the first is larger."""
    square = float(np.dot(vector, vector))
    if square == 0:
        return -math.inf, math.inf
    middle = -float(np.sum(vector * others)) / square
    left = limit * limit - float(np.sum(np.square(others + middle * vector)))
    if left < 0:
        return math.inf, -math.inf
    half = math.sqrt(left / square)
    return middle - half, middle + half
