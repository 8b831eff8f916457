"""What the governor's kernels compute, in plain PyTorch: their definition, and the way on a CPU."""

import torch
from torch import Tensor

from steersman_kernels.governed import (
    ANSWER,
    ANSWERED,
    BASE,
    BEFORE,
    BUDGET,
    BY_BUDGET,
    BY_CERTAINTY,
    BY_ENTROPY,
    BY_LENGTH,
    BY_LOOP,
    BY_MODEL,
    CLOSED_BY,
    CLOSING,
    CONFIDENCE,
    CONFIDENCE_HIGH,
    CONFIDENCE_LOW,
    CONFIDENCE_SUM,
    ENDED,
    ENTROPY_SUM,
    ERROR,
    EXIT_BELOW,
    FORCED,
    GAIN,
    GOVERNED,
    GRACE,
    HIGH,
    HISTORY,
    INTEGRAL_GAIN,
    KNOWN,
    LATEST,
    LAW,
    LOOP,
    LOOP_REPEATS,
    LOOP_TOKENS,
    LOW,
    MINIMUM,
    NUDGE,
    NUDGES,
    PHASE,
    PROPORTIONAL,
    SEEN,
    SEGMENT,
    SEGMENT_ENDS,
    SEGMENTS,
    SEQUENCE,
    SETTLED,
    STEEPNESS,
    STRENGTH,
    T_CLOSED_BY,
    T_ENTROPY,
    T_FORCED,
    T_LOGPROB,
    T_STRENGTH,
    T_TOP,
    TARGET,
    THINKING,
    THOUGHT,
    VARIANCE_HIGH,
    VARIANCE_LOW,
    WINDOW,
    WINDOW_TOKENS,
    State,
    Vocabulary,
)
from steersman_kernels.reference import ENTROPY, LSE, TOP


def govern_reference(
    state: State,
    vocabulary: Vocabulary,
    *,
    seats: Tensor,
    positions: Tensor,
    rows: Tensor,
    sampled: Tensor,
    logits: Tensor,
    logit_rows: Tensor,
    statistics: Tensor,
    track: Tensor,
) -> None:
    """What `govern` does, on any device. It reads on the host which rules are in use."""
    track.fill_(torch.nan)
    known = state.ints.index_select(0, seats)[:, KNOWN]
    live = (positions + 1 >= known).nonzero().squeeze(1)
    if not len(live):
        return
    seat, position, row = seats[live].long(), positions[live] + 1, rows[live]
    # Rows are taken and put back by `index_select` and `index_copy_`: indexing starts threads.
    ints, floats = state.ints.index_select(0, seat), state.floats.index_select(0, seat)
    recent, nudge = state.recent.index_select(0, seat), state.nudge.index_select(0, seat)
    thought, seen = ints[:, THOUGHT].long(), ints[:, SEEN].long()
    before, inside = ints[:, PHASE] == BEFORE, ints[:, PHASE] == THINKING
    drawn = sampled[row].long()

    opened = before & _completes(vocabulary.start, recent, seen, drawn)
    marked = (before | inside) & ~opened & _completes(vocabulary.end, recent, seen, drawn)
    stop = torch.isin(drawn, vocabulary.stops)
    reason = _reason(state, seat, ints, floats, position)
    token, forced, closing = _decide(
        vocabulary, ints, nudge, drawn, stop=stop, marked=marked, reason=reason
    )
    marked &= ~forced

    counted = inside & ~closing & ~marked
    _remember(state, seat, ints, recent, token, counted)
    measured = statistics[live]
    state.window[seat[counted], thought[counted] % WINDOW_TOKENS] = measured[counted, ENTROPY]
    ints[:, ANSWERED] += ints[:, PHASE] == ANSWER
    thought = thought + counted - marked * max(len(vocabulary.end) - 1, 0)
    ints[:, THOUGHT] = thought.clamp(min=0).int()
    ints[:, SEEN] += 1
    last = marked | (closing & (ints[:, SEQUENCE] == 0))
    ints[:, PHASE] = torch.where(
        opened, THINKING, torch.where(last, ANSWER, ints[:, PHASE].long())
    ).int()
    ended = _entry(vocabulary.boundary[None], torch.zeros_like(token), token, 0).bool()
    ints[:, ENDED] = ended.int()

    if ints[:, LAW].any():
        steered = counted & (ints[:, LAW] != 0)
        _measure(ints, floats, measured, steered & ~ended)
        over = steered & ended & (ints[:, SEGMENT] > 0)
        _end_segments(state, seat, ints, floats, position, over.nonzero().squeeze(1))

    state.ints.index_copy_(0, seat, ints)
    state.floats.index_copy_(0, seat, floats)
    sampled[row] = token.to(sampled.dtype)
    track[live, T_ENTROPY] = measured[:, ENTROPY]
    logit = _entry(logits, logit_rows[live], token, torch.nan).float()
    track[live, T_LOGPROB] = logit - measured[:, LSE]
    track[live, T_TOP] = measured[:, TOP]
    track[live, T_STRENGTH] = floats[:, STRENGTH]
    track[live, T_CLOSED_BY] = ints[:, CLOSED_BY].float()
    track[live, T_FORCED] = forced.float()


def _entry(table: Tensor, rows: Tensor, tokens: Tensor, otherwise: float) -> Tensor:
    """`[n]`: the tokens' entries in rows of a table; `otherwise` for one outside the vocabulary."""
    place = tokens.clamp(0, table.shape[1] - 1)
    return table[rows, place].masked_fill(place != tokens, otherwise)


def _completes(marker: Tensor, recent: Tensor, seen: Tensor, drawn: Tensor) -> Tensor:
    """`[n]`, bool: the marker is what the last tokens and the drawn one make."""
    length = len(marker)
    if not length:
        return torch.zeros_like(drawn, dtype=torch.bool)
    found = (drawn == marker[-1]) & (seen >= length - 1)
    if length > 1:
        tail = seen.unsqueeze(1) + torch.arange(1 - length, 0, device=seen.device)
        found &= (recent.gather(1, tail % HISTORY) == marker[:-1]).all(dim=1)
    return found


def _reason(state: State, seat: Tensor, ints: Tensor, floats: Tensor, position: Tensor) -> Tensor:
    """`[n]`, int64: why thinking must be closed by the token at `position`, 0 if it need not."""
    thought = ints[:, THOUGHT].long()
    budget, ended = ints[:, BUDGET].long(), ints[:, ENDED] != 0
    spent = (thought >= budget) & ((thought >= budget + ints[:, GRACE]) | (ended & (thought > 0)))
    late = position >= ints[:, LATEST]
    reason = torch.where(spent, BY_BUDGET, torch.where(late, BY_LENGTH, 0))
    open_ = (thought > 0) & (thought >= ints[:, MINIMUM]) & (reason == 0)

    looking = (open_ & (ints[:, LOOP] != 0)).nonzero().squeeze(1)
    if len(looking):
        periods = torch.arange(1, HISTORY + 1, device=seat.device)
        enough = (periods * (LOOP_REPEATS - 1)).clamp(min=LOOP_TOKENS)
        loops = (state.runs.index_select(0, seat[looking]) >= enough).any(dim=1)
        reason[looking] = torch.where(loops, BY_LOOP, 0)

    width = ints[:, WINDOW].long()
    may_exit = open_ & ended & (width > 0) & (thought >= width) & (reason == 0)
    looking = may_exit.nonzero().squeeze(1)
    if len(looking):
        width = width[looking]
        lane = torch.arange(WINDOW_TOKENS, device=seat.device)
        age = (thought[looking].unsqueeze(1) - 1 - lane) & (WINDOW_TOKENS - 1)
        outside = age >= width.unsqueeze(1)
        total = state.window.index_select(0, seat[looking]).masked_fill(outside, 0.0).sum(dim=1)
        sure = total < floats[looking, EXIT_BELOW] * width
        reason[looking] = torch.where(sure, BY_ENTROPY, 0)
    settled = open_ & ended & (ints[:, SETTLED] != 0) & (reason == 0)
    return torch.where(settled, BY_CERTAINTY, reason)


def _decide(
    vocabulary: Vocabulary,
    ints: Tensor,
    nudge: Tensor,
    drawn: Tensor,
    *,
    stop: Tensor,
    marked: Tensor,
    reason: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """The final tokens, int64; which were forced, and which of these to close.

    SEQUENCE, FORCED and CLOSED_BY of `ints` become what they are after the token.
    """
    free = ints[:, SEQUENCE] == 0
    governed = free & (ints[:, PHASE] == THINKING) & (ints[:, GOVERNED] != 0)
    closes = governed & (reason > 0)
    leaves = governed & ~closes & (stop | marked)
    delayed = leaves & (ints[:, THOUGHT] < ints[:, MINIMUM]) & (ints[:, NUDGES] > 0)
    halted = leaves & ~delayed & stop
    natural = free & marked & ~closes & ~delayed
    closed_by = torch.where(halted | natural, BY_MODEL, ints[:, CLOSED_BY].long())
    ints[:, CLOSED_BY] = torch.where(closes, reason, closed_by).int()

    closing = closes | halted | (ints[:, SEQUENCE] == CLOSING)
    nudged = delayed | (ints[:, SEQUENCE] == NUDGE)
    place = ints[:, FORCED].long()
    token = torch.where(nudged, nudge.gather(1, place.unsqueeze(1)).squeeze(1).long(), drawn)
    if len(vocabulary.closing):
        last = len(vocabulary.closing) - 1
        token = torch.where(closing, vocabulary.closing[place.clamp(max=last)].long(), token)
    length = torch.where(closing, len(vocabulary.closing), ints[:, NUDGES].long())
    going = (closing | nudged) & (place + 1 < length)
    ints[:, SEQUENCE] = (going * torch.where(closing, CLOSING, NUDGE)).int()
    ints[:, FORCED] = (going * (place + 1)).int()
    return token, closing | nudged, closing


def _remember(
    state: State, seat: Tensor, ints: Tensor, recent: Tensor, token: Tensor, counted: Tensor
) -> None:
    """Take the tokens up into `recent`, those that count into `runs`."""
    looking = (counted & (ints[:, LOOP] != 0)).nonzero().squeeze(1)
    if len(looking):
        period = torch.arange(1, HISTORY + 1, device=seat.device)
        seen, thought = ints[looking, SEEN].unsqueeze(1), ints[looking, THOUGHT].unsqueeze(1)
        before = recent.index_select(0, looking).gather(1, (seen - period) & (HISTORY - 1))
        repeated = before == token[looking].unsqueeze(1)
        # Only tokens of this thinking phase count, and all of these were thinking tokens.
        repeated &= period <= thought
        place = seat[looking]
        runs = state.runs.index_select(0, place)
        state.runs.index_copy_(0, place, (runs + 1) * repeated)
    state.recent[seat, ints[:, SEEN].long() % HISTORY] = token.int()


def _measure(ints: Tensor, floats: Tensor, measured: Tensor, grows: Tensor) -> None:
    """Add the tokens to their running segments."""
    ints[:, SEGMENT] += grows
    floats[:, ENTROPY_SUM] += torch.where(grows, measured[:, ENTROPY], 0.0)
    floats[:, CONFIDENCE_SUM] += torch.where(grows, measured[:, TOP], 0.0)


def _end_segments(
    state: State, seat: Tensor, ints: Tensor, floats: Tensor, position: Tensor, over: Tensor
) -> None:
    """The law at the ends of segments: new strengths for the rows `over`, from `position` on."""
    if not len(over):
        return
    part, tokens = floats[over], ints[over, SEGMENT]
    strength, error = _proportional(part, part[:, ENTROPY_SUM] / tokens)
    confidence = part[:, CONFIDENCE_SUM] / tokens
    proportional = ints[over, LAW] == PROPORTIONAL
    strength = torch.where(proportional, strength, _confidence(part, confidence))
    part[:, ERROR] = torch.where(proportional, error, part[:, ERROR])
    part[:, STRENGTH], part[:, CONFIDENCE] = strength, confidence
    part[:, ENTROPY_SUM] = part[:, CONFIDENCE_SUM] = 0.0
    floats[over] = part

    place = ints[over, SEGMENTS].long().clamp(max=SEGMENT_ENDS - 1)
    state.ends[seat[over], place] = position[over].int()
    state.strengths[seat[over], place] = strength
    ints[over, SEGMENTS] = (place + 1).int()
    ints[over, SEGMENT] = 0


def _proportional(floats: Tensor, entropy: Tensor) -> tuple[Tensor, Tensor]:
    """Strength and sum of errors: a PI controller whose sum stands still at a bound."""
    error = entropy - floats[:, TARGET]
    total = floats[:, ERROR] + error
    push = floats[:, INTEGRAL_GAIN] * error
    wanted = floats[:, BASE] + floats[:, GAIN] * error + floats[:, INTEGRAL_GAIN] * total
    wound = ((wanted > floats[:, HIGH]) & (push > 0)) | ((wanted < floats[:, LOW]) & (push < 0))
    strength = torch.clamp(wanted, floats[:, LOW], floats[:, HIGH])
    return strength, torch.where(wound, floats[:, ERROR], total)


def _confidence(floats: Tensor, confidence: Tensor) -> Tensor:
    """Strength by the confidence of a segment and its variance over the last two."""
    low, high = floats[:, CONFIDENCE_LOW], floats[:, CONFIDENCE_HIGH]
    step = confidence - floats[:, CONFIDENCE]
    variance = torch.where(step.isnan(), 0.0, step * step / 4)
    steep, middle, half = floats[:, STEEPNESS], (low + high) / 2, (high - low) / 2
    ratio = torch.tanh(steep * (confidence - middle)) / torch.tanh(steep * half)
    strength = torch.clamp(floats[:, BASE] * (1 - ratio) / 2, floats[:, LOW], floats[:, HIGH])
    overthinks = (confidence < low) & (variance > floats[:, VARIANCE_HIGH])
    underthinks = (confidence > high) & (variance < floats[:, VARIANCE_LOW])
    strength = torch.where(underthinks, floats[:, LOW], strength)
    return torch.where(overthinks, floats[:, HIGH], strength)


def coefficients_reference(
    coef: Tensor, state: State, seats: Tensor, query_start: Tensor, positions: Tensor
) -> None:
    """What `coefficients` does, on any device. It reads `seats` on the host."""
    coef.fill_(1.0)
    steered = (seats >= 0) & (state.ints[seats.clamp(min=0), LAW] != 0)
    for request in steered.nonzero().squeeze(1).tolist():
        rows = slice(int(query_start[request]), int(query_start[request + 1]))
        seat = seats[request]
        count = int(state.ints[seat, SEGMENTS])
        ends, strengths = state.ends[seat, :count], state.strengths[seat, :count]
        place = torch.searchsorted(ends, positions[rows].int(), right=True)
        coef[rows] = torch.cat([state.floats[seat, BASE].view(1), strengths])[place]
