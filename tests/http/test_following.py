"""Files that are put beside a running server: it follows them, as each replica does."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from steersman.edits import file as edit_file
from steersman.vectors import file
from steersman.vectors.vector import Vector, VectorMetadata
from steersman_client import ControlSpec, Steer, Steersman, receipt_of
from tests.engine.edits import random_edit
from tests.http.server import ADMIN_KEY, Server
from tests.http.test_vectors import NOISE
from tests.http.waiting import wait_until

MODEL = "reasoner"
ASK: list[Any] = [{"role": "user", "content": "6+9*3-8=?"}]
UNUSABLE = "steersman_unusable_files"


def noise(strength: float = 0.1) -> bytes:
    """The file of a vector."""
    made = VectorMetadata(site="layer", method="test", strength=strength)
    return file.write(Vector(dict(enumerate(NOISE)), made))


@contextlib.contextmanager
def laid(path: Path, content: bytes) -> Iterator[None]:
    """A file that somebody puts there, as it is after the body of the `with` too, if it was."""
    before = path.read_bytes() if path.exists() else None
    path.write_bytes(content)
    try:
        yield
    finally:
        if before is None:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(before)


def vectors(client: Steersman) -> set[str]:
    return {vector.id for vector in client.control.vectors.list()}


def profiles(client: Steersman) -> set[str]:
    return {profile["id"] for profile in client.control.profiles()["data"]}


def digests(client: Steersman) -> dict[str, str]:
    found: dict[str, str] = client.control.capabilities()["digests"]
    return found


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {kind for kind in before if before[kind] != after[kind]}


def ask(client: Steersman, **options: Any) -> Any:
    arguments = {"model": MODEL, "max_tokens": 8, "temperature": 0, **options}
    return client.chat.completions.create(messages=ASK, **arguments)


def test_a_vector_comes_is_replaced_and_goes_with_its_file(
    thinker: Steersman, shared: Path
) -> None:
    steer = ControlSpec(steer=(Steer(vector="by-hand"),))
    before = digests(thinker)
    path = shared / "vectors" / "by-hand.safetensors"
    with laid(path, noise()):
        wait_until(lambda: "by-hand" in vectors(thinker))
        first = thinker.control.vectors.retrieve("by-hand").digest
        assert receipt_of(ask(thinker, control=steer)).applied.steer[0].digest == first
        assert changed(before, digests(thinker)) == {"all", "vectors"}
        path.write_bytes(noise(0.2))
        wait_until(lambda: thinker.control.vectors.retrieve("by-hand").digest != first)
        second = thinker.control.vectors.retrieve("by-hand").digest
        assert receipt_of(ask(thinker, control=steer)).applied.steer[0].digest == second
    wait_until(lambda: "by-hand" not in vectors(thinker))
    assert digests(thinker) == before
    with pytest.raises(openai.BadRequestError, match="unknown vector 'by-hand'"):
        ask(thinker, control=steer)


def test_a_request_that_runs_keeps_the_vector_of_a_file_that_goes(
    thinker: Steersman, shared: Path
) -> None:
    with laid(shared / "vectors" / "brief.safetensors", noise()):
        wait_until(lambda: "brief" in vectors(thinker))
        stream = thinker.completions.create(
            model=MODEL,
            prompt="6+9=",
            control=ControlSpec(steer=(Steer(vector="brief"),)),
            stream=True,
            max_tokens=300,
            extra_body={"ignore_eos": True},
        )
        next(iter(stream))
    wait_until(lambda: "brief" not in vectors(thinker))
    (receipt,) = [chunk.control for chunk in stream if chunk.control is not None]
    assert receipt.applied.steer[0].tokens == 299


def test_an_upload_is_a_file_for_the_others(thinker: Steersman, shared: Path) -> None:
    path = shared / "vectors" / "uploaded.safetensors"
    thinker.control.vectors.upload("uploaded", noise(), admin_key=ADMIN_KEY)
    assert path.read_bytes() == noise()
    thinker.control.vectors.delete("uploaded", admin_key=ADMIN_KEY)
    assert not path.exists()


def test_a_broken_file_is_counted_and_nothing_else(
    thinker: Steersman, reasoner: Server, shared: Path
) -> None:
    known = vectors(thinker)
    with laid(shared / "vectors" / "broken.safetensors", noise()[:-1]):
        wait_until(lambda: reasoner.metric(UNUSABLE, kind="vectors") == 1)
        assert vectors(thinker) == known
        assert ask(thinker).choices
    wait_until(lambda: reasoner.metric(UNUSABLE, kind="vectors") == 0)


def test_profiles_follow_their_file(thinker: Steersman, reasoner: Server, shared: Path) -> None:
    path = shared / "profiles.yaml"
    before, known, whole = digests(thinker), profiles(thinker), path.read_bytes()
    added = b"\nadded: {control: {search: {method: first_finish, n: 2}}}\n"
    with laid(path, whole + added):
        wait_until(lambda: "added" in profiles(thinker))
        assert f"{MODEL}:added" in {model.id for model in thinker.models.list()}
        applied = receipt_of(ask(thinker, model=f"{MODEL}:added", temperature=1)).applied
        assert applied.profile == "added"
        assert applied.search is not None
        assert applied.search.launched == 2
        assert changed(before, digests(thinker)) == {"all", "profiles"}
        for broken in (b"\nadded: [", b"\nadded: {control: {steer: [{vector: gone}]}}"):
            path.write_bytes(whole + broken)
            wait_until(lambda: reasoner.metric(UNUSABLE, kind="profiles") == 1)
            assert profiles(thinker) == {*known, "added"}
            path.write_bytes(whole + added)
            wait_until(lambda: reasoner.metric(UNUSABLE, kind="profiles") == 0)
    wait_until(lambda: profiles(thinker) == known)
    assert digests(thinker) == before
    with pytest.raises(openai.APIStatusError, match="added"):
        ask(thinker, model=f"{MODEL}:added")


def test_a_weight_edit_is_live_with_its_file(thinker: Steersman, shared: Path) -> None:
    edit = random_edit({0: (1, 4)}, weight=14.0, seed=3)
    before = digests(thinker)

    def live() -> set[str]:
        return {edit.edit for edit in receipt_of(ask(thinker, control={})).applied.edits}

    with laid(shared / "live" / "firm.safetensors", edit_file.write(edit)):
        wait_until(lambda: live() == {"firm"})
        assert changed(before, digests(thinker)) == {"all", "live_edits"}
    wait_until(lambda: live() == set())
    assert digests(thinker) == before
