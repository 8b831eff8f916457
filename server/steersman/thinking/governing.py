"""Instructions to the governor for one request."""

from dataclasses import dataclass

from steersman.wire import Law, ThinkingMessage


@dataclass(frozen=True, slots=True)
class Probing:
    """Schedule of the probes that ask for the answer while the model thinks.

    Attributes:
        every: Tokens from one question to the next.
        agree: Answers that must be the same.
        max_tokens: Of such an answer.

    """

    every: int
    agree: int
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Governing:
    """Instructions to the governor for one request. Counts are of tokens, markers not counted.

    Attributes:
        budget: Thinking tokens after which thinking is closed; None for no limit.
        grace: Tokens past the budget in which the end of a sentence is awaited.
        minimum: Thinking tokens before which the model cannot close; 0 for none.
        nudge: Tokens that stand in place of an end that comes before; none without a minimum.
        window: Thinking tokens whose mean entropy is looked at; 0 for no exit.
        entropy_below: The mean below which thinking is closed, in nats.
        on_loop: Whether a loop closes it.
        min_answer: Answer tokens before which the response cannot end.
        law: How the strength of the balanced vector moves; None without one.
        probing: How the answer is asked for meanwhile; None if it is not. It is the front end's
            business, and no part of what the engine is told.

    """

    budget: int | None = None
    grace: int = 0
    minimum: int = 0
    nudge: tuple[int, ...] = ()
    window: int = 0
    entropy_below: float = 0.0
    on_loop: bool = False
    min_answer: int = 1
    law: Law | None = None
    probing: Probing | None = None

    @property
    def needs_entropy(self) -> bool:
        """True if the governor looks at the distributions, and not only at the tokens."""
        return self.window > 0 or self.law is not None

    def message(self) -> ThinkingMessage:
        """The form in which it travels with a request."""
        return ThinkingMessage(
            budget=self.budget,
            grace=self.grace,
            minimum=self.minimum,
            nudge=self.nudge,
            window=self.window,
            entropy_below=self.entropy_below,
            on_loop=self.on_loop,
            min_answer=self.min_answer,
            law=self.law,
        )
