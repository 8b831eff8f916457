"""The tokens that mean something to gate and governor: markers, and ends of lines and sentences."""

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor


class Vocabulary(NamedTuple):
    """The tokens of a model that open, close and divide its thinking.

    Attributes:
        start: `[<= MARKER_TOKENS]`, int32: the marker that opens thinking; empty if there is none.
        end: `[<= MARKER_TOKENS]`, int32: the marker that closes it; empty if there is none.
        implicit: `[any]`, int32: tokens each of which closes it too, as the first of the answer, as
            that of a tool call does.
        closing: `[<= MARKER_TOKENS]`, int32: what is forced to close; not empty where a request
            with a thinking phase is governed.
        boundary: `[vocabulary]`, bool or uint8: the text ends a line or a sentence.

    """

    start: Tensor
    end: Tensor
    implicit: Tensor
    closing: Tensor
    boundary: Tensor

    @classmethod
    def of(
        cls,
        start: Sequence[int],
        end: Sequence[int],
        implicit: Sequence[int] = (),
        closing: Sequence[int] = (),
        boundary: bytes = b"",
    ) -> Self:
        """A vocabulary on the host, from token ids and a byte for each token: 1 at a boundary."""

        def tokens(ids: Sequence[int]) -> Tensor:
            return torch.tensor(list(ids), dtype=torch.int32)

        ends = torch.from_numpy(np.frombuffer(boundary, np.bool_).copy())
        return cls(tokens(start), tokens(end), tokens(implicit), tokens(closing), ends)

    def to(self, device: torch.device | str) -> "Vocabulary":
        """The same on a device."""
        return Vocabulary(*(tensor.to(device) for tensor in self))
