"""The command `steersman align`."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from steersman.console import errors, fail, output

# Long chains of long responses on a busy machine take their time.
_REQUEST_SECONDS = 3600.0


_QuestionArgument = Annotated[
    str | None, typer.Argument(help="The question; standard input if left out, or for -.")
]
_PowerOption = Annotated[
    float | None, typer.Option(help="Target p(response)^POWER; 4 without a --reward.")
]
_RewardOption = Annotated[
    str | None,
    typer.Option(help="Target p(response) exp(reward / BETA): name of a reward of the server."),
]
_DataOption = Annotated[
    str | None, typer.Option(help="Facts that the reward judges by: a JSON object.")
]
_BetaOption = Annotated[float | None, typer.Option(help="The smaller, the more the reward counts.")]
_StepsOption = Annotated[int | None, typer.Option(help="Steps of each chain; 32.")]
_ChainsOption = Annotated[int | None, typer.Option(help="Chains, side by side; 1.")]
_SelectOption = Annotated[
    Literal["majority", "mbr", "last", "best"] | None,
    typer.Option(help="The state that is the answer; majority."),
]
_LookAheadOption = Annotated[
    int | None, typer.Option(help="Steps that are drawn at once; by the acceptance.")
]
_SeedOption = Annotated[int | None, typer.Option(help="Seed of the request; none.")]
_MaxTokensOption = Annotated[int | None, typer.Option(help="Tokens of a response at most.")]
_ModelOption = Annotated[str | None, typer.Option(help="Model to ask; the server's first.")]
_UrlOption = Annotated[str, typer.Option(help="Address of the server.")]
_KeyOption = Annotated[
    str | None, typer.Option(help="Key of the server.", envvar="STEERSMAN_API_KEY")
]
_PictureOption = Annotated[
    Path | None, typer.Option(help="File for a picture of the chains: .png, .svg, .pdf …")
]


def align(
    question: _QuestionArgument = None,
    power: _PowerOption = None,
    reward: _RewardOption = None,
    data: _DataOption = None,
    beta: _BetaOption = None,
    steps: _StepsOption = None,
    chains: _ChainsOption = None,
    select: _SelectOption = None,
    look_ahead: _LookAheadOption = None,
    seed: _SeedOption = None,
    max_tokens: _MaxTokensOption = None,
    model: _ModelOption = None,
    url: _UrlOption = "http://127.0.0.1:8000",
    api_key: _KeyOption = None,
    picture: _PictureOption = None,
) -> None:
    """Ask a running server by chains towards a target, and watch them walk.

    The answer goes to standard output, everything else to standard error.
    """
    text = _question(question)
    target = _target(power, reward, data, beta)
    given = {"steps": steps, "chains": chains, "select": select, "look_ahead": look_ahead}
    search = {"method": "align", "target": target, **_set(given)}
    if picture is not None:
        _check(picture)

    from steersman.chains.asking import AskingError, Question, ask
    from steersman.chains.screen import Screen
    from steersman_client import Align, Steersman

    most = Align.model_fields["steps"].default if steps is None else steps
    options = _set({"seed": seed, "max_tokens": max_tokens})
    address = f"{url.rstrip('/').removesuffix('/v1')}/v1"
    try:
        with (
            Steersman(
                base_url=address, api_key=api_key, timeout=_REQUEST_SECONDS, max_retries=0
            ) as client,
            Screen(errors, most) as screen,
        ):
            answer = ask(client, Question(text, search, model, options), screen.show)
    except AskingError as error:
        fail(str(error))
    if answer.text.strip():
        output.print(answer.text.strip(), highlight=False, markup=False, soft_wrap=True)
    else:
        errors.print("steersman: the response has no text behind its thinking", style="red")
    screen.end(answer)
    if picture is not None:
        from steersman.chains.picture import draw

        label = f"target: {target['power']:g} log p" if "power" in target else f"reward: {reward}"
        try:
            draw(answer, text, label, picture)
        except OSError as error:
            fail(f"--picture {picture}: cannot be written: {error.strerror}")
        errors.print(f"picture: {picture}", highlight=False, markup=False, soft_wrap=True)


def _question(given: str | None) -> str:
    if given in (None, "-"):
        if sys.stdin.isatty():
            fail("give a question, as an argument or on standard input")
        given = sys.stdin.read()
    text = (given or "").strip()
    if not text:
        fail("the question is empty")
    return text


def _target(
    power: float | None, reward: str | None, data: str | None, beta: float | None
) -> dict[str, Any]:
    """`control.search.target`."""
    if reward is None:
        if data is not None or beta is not None:
            fail("--data and --beta are of a --reward")
        return {"power": 4.0 if power is None else power}
    if power is not None:
        fail("--power and --reward are two targets: give one of them")
    if data is None:
        return _set({"reward": reward, "beta": beta})
    try:
        facts = json.loads(data)
    except ValueError as error:
        fail(f"--data: not valid JSON: {error}")
    if not isinstance(facts, dict):
        fail("--data: must be a JSON object")
    return _set({"reward": {"name": reward, "data": facts}, "beta": beta})


def _set(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _check(picture: Path) -> None:
    """Find out before anything is asked whether a picture can be drawn."""
    from steersman.evaluate import optional
    from steersman.evaluate.error import EvaluationError

    try:
        optional.require(*optional.ALWAYS)
    except EvaluationError as error:
        fail(f"--picture: {error}")

    from steersman.chains.picture import formats

    if picture.suffix.removeprefix(".").lower() not in formats():
        fail(f"--picture {picture}: the suffix must be one of {', '.join(sorted(formats()))}")
    if not picture.absolute().parent.is_dir():
        fail(f"--picture {picture}: there is no directory {picture.absolute().parent}")
