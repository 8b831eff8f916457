"""What the kernels compute, in plain PyTorch: their definition, and what serves on a CPU.

The table of steered requests has one int32 row, a "seat", per live request:

| column | holds |
|---|---|
| `ORIGIN` | prompt tokens of the request: the positions below are the prompt |
| `OPENED` | position of the token that opened the thinking phase, or `NEVER` |
| `CLOSED` | position of the token that closed it, or `NEVER` |
| `ROWS` + class | bank row for the tokens of a class, -1 where these are not steered |
| `COUNTS` + class | tokens of the class steered so far |
| `EDITED` | tokens that have gone through the request's edit so far |

The class of a token is `2 * segment + boundary`: the segment is 0 in the prompt, 1 in the thinking
phase (`OPENED <= position < CLOSED`), 2 in the answer, and `boundary` is 1 if the token's text ends
a line or a sentence.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

ORIGIN = 0
OPENED = 1
CLOSED = 2
ROWS = 3
CLASSES = 6
COUNTS = ROWS + CLASSES
EDITED = COUNTS + CLASSES
WIDTH = 16
NEVER = 2**31 - 1

# Columns of what `entropy` returns.
LSE = 0
ENTROPY = 1
TOP = 2
STATISTICS = 3

# Temporaries of this many elements stay in the cache; much larger ones cost a page fault a page.
_CHUNK = 2**18
# Logits go by larger parts: there every operation is wide enough for all cores.
_CHUNK_OF_LOGITS = 2**20


@dataclass(frozen=True)
class Markers:
    """The single tokens that open and close the thinking phase, -1 where there is none."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Touched:
    """The steered rows of a span of tokens: what every layer would else find out anew.

    Attributes:
        begin: First token of the span.
        end: The token after its last.
        rows: `[touched]`, int64, rows within the span; None if all of it is steered.
        slots: `[touched]`, their rows of the bank.
        coef: `[touched, 1]`, float32, their factors; None if all are 1.

    """

    begin: int
    end: int
    rows: Tensor | None
    slots: Tensor
    coef: Tensor | None


def touched(slot: Tensor, coef: Tensor, tokens: int, size: int) -> tuple[Touched, ...]:
    """The steered rows of a batch, in spans that stay in the cache; none without such rows.

    Args:
        slot: As for `steer`.
        coef: As for `steer`.
        tokens: Tokens of the batch.
        size: Of the hidden states.

    """
    step = max(1, _CHUNK // size)
    spans = (
        _touched(slot, coef, begin, min(begin + step, tokens)) for begin in range(0, tokens, step)
    )
    return tuple(span for span in spans if span is not None)


def _touched(slot: Tensor, coef: Tensor, begin: int, end: int) -> Touched | None:
    slot, coef = slot[begin:end], coef[begin:end]
    if slot.max().item() < 0:
        return None
    rows = None
    if slot.min().item() < 0:
        rows = (slot >= 0).nonzero().squeeze(1)
        slot, coef = slot.index_select(0, rows), coef.index_select(0, rows)
    # Factors are seldom other than 1, and in half precision the product doubles the time.
    low, high = torch.aminmax(coef)
    ones = low.item() == high.item() == 1.0
    return Touched(begin, end, rows, slot.clone(), None if ones else coef.unsqueeze(1).clone())


def steer_touched(hidden: Tensor, bank: Tensor, spans: tuple[Touched, ...]) -> None:
    """What `steer` does, with the steered rows already found."""
    for span in spans:
        part = hidden
        if span.end - span.begin < hidden.shape[0]:
            part = hidden[span.begin : span.end]
        direction = bank.index_select(0, span.slots)
        if span.rows is None:
            _add(part, direction, span.coef)
        else:
            rows = part.index_select(0, span.rows)
            _add(rows, direction, span.coef)
            part.index_copy_(0, span.rows, rows)


def steer_reference(hidden: Tensor, bank: Tensor, slot: Tensor, coef: Tensor) -> None:
    """What `steer` does, on any device. It reads `slot` on the host, so no graph captures it."""
    steer_touched(hidden, bank, touched(slot, coef, *hidden.shape))


def project_touched(
    output: Tensor, inputs: Tensor, read: Tensor, write: Tensor, spans: tuple[Touched, ...]
) -> None:
    """What `project` does, with the edited rows already found."""
    for span in spans:
        rows = slice(span.begin, span.end) if span.rows is None else span.rows + span.begin
        products = (inputs[rows].float() * read.index_select(0, span.slots).float()).sum(1, True)
        if span.coef is not None:
            products *= span.coef
        change = products * write.index_select(0, span.slots).float()
        output[rows] = (output[rows].float() + change).to(output.dtype)


def project_reference(
    output: Tensor, inputs: Tensor, read: Tensor, write: Tensor, slot: Tensor, coef: Tensor
) -> None:
    """What `project` does, on any device. It reads `slot` on the host: no graph captures it."""
    project_touched(output, inputs, read, write, touched(slot, coef, *output.shape))


def _add(hidden: Tensor, direction: Tensor, coef: Tensor | None) -> None:
    # Both ways compute in float32 and round once; `add_` with an alpha would round the product.
    if coef is None:
        hidden.add_(direction)
    else:
        hidden.addcmul_(direction, coef)


def gate_reference(
    requests: Tensor,
    seats: Tensor,
    query_start: Tensor,
    positions: Tensor,
    token_ids: Tensor,
    boundary: Tensor,
    markers: Markers,
    slot: Tensor,
) -> None:
    """What `gate` does, on any device. It reads `seats` on the host, so no graph captures it."""
    slot.fill_(-1)
    if seats.shape[0] == 0 or seats.max().item() < 0:
        return
    ends = query_start[1 : seats.shape[0] + 1]
    row = torch.arange(int(ends[-1]), dtype=ends.dtype, device=ends.device)
    seat = seats.index_select(0, torch.searchsorted(ends, row, right=True, out_int32=True))
    rows = (seat >= 0).nonzero().squeeze(1)
    seat = seat.index_select(0, rows).long()
    position = positions.index_select(0, rows)
    token = token_ids.index_select(0, rows)
    state = requests.index_select(0, seat)

    generated = position >= state[:, ORIGIN]
    for column, marker in ((OPENED, markers.start), (CLOSED, markers.end)):
        hit = generated & (token == marker)
        if 0 <= marker < boundary.shape[0] and bool(hit.any()):
            found = position[hit].to(requests.dtype)
            requests[:, column].scatter_reduce_(0, seat[hit], found, "amin")
            state = requests.index_select(0, seat)

    thinking = (state[:, OPENED] <= position) & (position < state[:, CLOSED])
    entry = token.clamp(0, boundary.shape[0] - 1)
    closing = boundary.index_select(0, entry).bool() & (entry == token)
    kind = 2 * generated * (2 - thinking.long()) + closing
    chosen = state.gather(1, (ROWS + kind).unsqueeze(1)).squeeze(1)
    slot.index_copy_(0, rows, chosen)
    steered = (chosen >= 0).to(requests.dtype)
    requests.index_put_((seat, COUNTS + kind), steered, accumulate=True)


def entropy_reference(logits: Tensor, rows: Tensor) -> Tensor:
    """What `entropy` does, on any device. It looks on the host whether tokens are masked."""
    step = max(1, _CHUNK_OF_LOGITS // logits.shape[1])
    found = [
        _entropy(logits.index_select(0, rows[begin : begin + step]).float())
        for begin in range(0, len(rows), step)
    ]
    return torch.cat(found) if found else logits.new_empty(0, STATISTICS, dtype=torch.float32)


def _entropy(logits: Tensor) -> Tensor:
    """`[rows, STATISTICS]`; `logits` is float32, and left changed."""
    top = logits.amax(dim=1, keepdim=True)
    # In place, here and below: large temporaries cost more than what is computed.
    gaps = logits.sub_(top)
    share = gaps.softmax(dim=1)
    most = share.amax(dim=1)
    spread = torch.linalg.vecdot(share, gaps)
    if spread.isnan().any():  # 0 times infinity, where tokens are masked
        spread = torch.linalg.vecdot(share, gaps.clamp_(min=torch.finfo(torch.float32).min))
    # The largest stays out of a sum of the rest: nothing is lost where it has nearly all the mass.
    others = gaps.sign_()
    rest = -torch.linalg.vecdot(share, others)
    largest = others.sum(dim=1) + others.shape[1]
    log = torch.where(rest < 0.5, rest.neg().log1p() - largest.log(), most.log())
    return torch.stack([top[:, 0] - log, -spread - log, most], dim=1)
