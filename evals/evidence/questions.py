"""Questions of the evidence page, each answered by a few controls of one run."""

from dataclasses import dataclass

from steersman.evaluate.plots import Cost


@dataclass(frozen=True, slots=True)
class Question:
    """A question and the part of a run that answers it.

    Attributes:
        name: Name of the picture's file, without its suffix.
        heading: The question.
        answer: Markdown. `{points:NAME}`, `{thinking:NAME}`, `{sampled:NAME}` and `{time:NAME}` are
            numbers of the control NAME against the baseline, with their intervals.
        run: Name of the run, the directory of its report.
        controls: Controls in the table and the picture, beside the baseline.
        cost: Tokens on the picture's axis.

    """

    name: str
    heading: str
    answer: str
    run: str
    controls: tuple[str, ...]
    cost: Cost = "thinking"


QUESTIONS = (
    Question(
        name="shorter",
        heading="Can steering make thinking shorter at no cost?",
        answer="""\
Yes, on this model. The profile `concise` thinks {thinking:concise} as long and is right
{points:concise} points more often. It is the sum of two vectors. `closing` alone (towards the end
of thinking) buys length with accuracy; `onward` (fewer re-checks) makes up for it. A random vector
of the same norm (`random 0.5`) shortens nothing.""",
        run="length_control",
        controls=(
            "closing 0.25",
            "closing 0.5",
            "closing 0.8",
            "random 0.5",
            "onward 0.3",
            "concise 0.25",
            "concise 0.5",
            "concise",
        ),
    ),
    Question(
        name="longer",
        heading="Do longer thoughts, or edited heads, make it better?",
        answer="""\
Some. `thorough` thinks {thinking:thorough} as long for {points:thorough} points. The same vector
without `onward` (`closing -0.5`) thinks {thinking:closing -0.5} as long for nothing
({points:closing -0.5} points): it is not length that helps. `steady`, the ThinkEdit of two heads,
gains {points:steady} points, but not where the method means to: its shortest tenth of responses is
no better than the model's own.""",
        run="length_control",
        controls=("closing -0.25", "closing -0.5", "thorough", "steady, strength 1", "steady"),
    ),
    Question(
        name="first_finish",
        heading="Is the first of several samples to finish the best?",
        answer="""\
Not on this model. Its
[shortest responses are its worst](../evals/evidence/results/first_finish/report.md#by-length),
and First Finish returns these: with 8 samples {points:first-finish 8} points. With a floor of 20
thinking tokens there is no clear difference to one sample in accuracy
({points:first-finish 8, floor 20} points) or time, for {sampled:first-finish 8, floor 20} the
tokens. Before you use it, find out whether your model's shortest responses are its worst:
[one run tells](evaluation.md#does-first-finish-suit-my-model).""",
        run="first_finish",
        controls=(
            "first-finish 2",
            "first-finish 4",
            "first-finish 8",
            "vote 3 of 8",
            "first-finish 8, floor 20",
        ),
        cost="sampled",
    ),
    Question(
        name="cautious",
        heading="Does caution at uncertain tokens make it better?",
        answer="""\
Yes, more than anything else here. [Cautious sampling](cautious.md) is right {points:cautious}
points more often for {sampled:cautious} the tokens of one sample; a vote of 8 samples gains less
({points:majority 8} points) for {sampled:majority 8} of them. A vote of 8 cautious responses gains
{points:cautious, majority 8} points and costs {sampled:cautious, majority 8} the tokens. This model
favours the method: its trials are lines of arithmetic, and a wrong sum is less likely than the
right one. Its authors report gains of 2 to 6 points on large models.""",
        run="cautious_10",
        controls=("cautious", "majority 8", "cautious, majority 8"),
        cost="sampled",
    ),
    Question(
        name="cautious_cool",
        heading="Does caution help where temperature 0.6 leaves less to be unsure of?",
        answer="""\
Less, and it costs less. One sample is right far more often than at temperature 1. Cautious sampling
gains {points:cautious} points for {sampled:cautious} the tokens. A vote of 8 samples gains
{points:majority 8} points for {sampled:majority 8} of them, and a vote of 8 cautious responses
hardly more than that ({points:cautious, majority 8} points for {sampled:cautious, majority 8}).""",
        run="cautious_06",
        controls=("cautious", "majority 8", "cautious, majority 8"),
        cost="sampled",
    ),
    Question(
        name="cautious_hot",
        heading="Does caution make up for a temperature of 1.2?",
        answer="""\
Yes. One sample is right about half the time there; cautious sampling gains {points:cautious} points
for {sampled:cautious} the tokens, and is then as often right as at lower temperatures. A vote of 8
samples gains {points:majority 8} points for {sampled:majority 8} of them, a vote of 8 cautious
responses {points:cautious, majority 8} points for {sampled:cautious, majority 8}.""",
        run="cautious_12",
        controls=("cautious", "majority 8", "cautious, majority 8"),
        cost="sampled",
    ),
    Question(
        name="search_and_steering",
        heading="Does a search with a floor gain from steering?",
        answer="""\
From `thorough`, not from `concise`. Four samples with a floor of 20 thinking tokens gain
{points:4 siblings, floor 20} points for {sampled:4 siblings, floor 20} the tokens and no more time.
With `thorough` it is {points:thorough, 4 siblings, floor 20} points; with `concise` the gain is
lost ({points:concise, 4 siblings, floor 20}).""",
        run="length_control",
        controls=(
            "concise",
            "thorough",
            "4 siblings, floor 20",
            "concise, 4 siblings, floor 20",
            "thorough, 4 siblings, floor 20",
        ),
        cost="sampled",
    ),
    Question(
        name="limits",
        heading="What do a budget, an early exit and a minimum do?",
        answer="""\
Budgets and exits harm it. It was not trained to answer from an unfinished thought, so a budget is a
limit on cost, not a gain: a budget of 64 with a grace of 16 thinks {thinking:budget 64, grace 16}
as long and loses accuracy ({points:budget 64, grace 16} points). A minimum with a nudge to check
helps ({points:min 12, wait} points), because its shortest thoughts are guesses; with a newline as
the nudge there is no clear gain. Closing loops loses a little ({points:loops closed} points): the
model gets out of some by itself.""",
        run="governing",
        controls=(
            "budget 16, grace 16",
            "budget 40, grace 16",
            "budget 40, no grace",
            "budget 64, grace 16",
            "exit 0.05 of 32",
            "exit 0.1 of 32",
            "loops closed",
            "min 12, newline",
            "min 12, wait",
        ),
    ),
    Question(
        name="balance",
        heading="Is a strength that follows the entropy better than a fixed one?",
        answer="""\
No, here. Each law lies where a fixed strength near its own mean lies, or trades accuracy for length
along the same front. Paired with that fixed strength, `falling 0.3` is less accurate and shorter,
`confidence` more accurate and longer ([numbers](../evals/evidence/results/governing/laws.json)).
Whether it is worth more on a larger model is open.""",
        run="governing",
        controls=(
            "falling 0.1",
            "falling 0.3",
            "rising 0.1",
            "confidence",
            "fixed 0.42",
            "fixed 0.58",
            "fixed 0.65",
        ),
    ),
)
