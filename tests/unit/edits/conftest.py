"""A made-up model and an edit of it, for all tests of edits by name."""

import pytest

from steersman.edits.checkpoint import Checkpoint
from steersman.edits.edit import Edit
from tests.unit.edits import made_up


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return made_up.checkpoint(made_up.directory(tmp_path_factory.mktemp("made") / "model"))


@pytest.fixture(scope="module")
def first(checkpoint: Checkpoint) -> Edit:
    return made_up.edit(checkpoint)
