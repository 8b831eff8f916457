import numpy as np
import pytest

from steersman.capabilities import Capabilities, Limits, Steering
from steersman.edits.edit import Edit, EditError, EditMetadata
from steersman.errors import ControlError
from steersman.steering.configuration import EditTerm
from steersman.steering.plan import plan
from steersman.trajectory.phases import Markers
from steersman.vectors.vector import Vector, VectorError, VectorMetadata
from steersman_client import Steer, ThinkEdit
from tests.unit.servers import MARKERS, MODEL

METADATA = VectorMetadata(
    site="layer",
    method="test",
    strength=0.7,
    phase="thinking",
    at="boundary",
    strength_range=(0.5, 1.0),
)
VECTOR = Vector({i: np.full(8, i, np.float32) for i in (0, 1, 2, 5)}, METADATA)


EDIT = Edit(
    {1: np.eye(1, 8, dtype=np.float32)[0]},
    {1: np.ones((1, 4), np.float32)},
    EditMetadata(weight=1.0, heads={1: (0,)}, head_dim=4, dtype="float32", weights={1: "0" * 64}),
)


class Shelf:
    def get(self, name: str) -> Vector:
        if name != "known":
            raise VectorError(f"unknown vector {name!r}", field="name")
        return VECTOR


def capabilities(markers: Markers | None = MARKERS, rows: int = 8) -> Capabilities:
    return Capabilities(
        model=MODEL,
        thinking_tokens=markers,
        greedy_by_default=False,
        limits=Limits(max_steer_terms=3),
        steering=Steering(rows=rows, bytes=0, runner="V1", model_digest=""),
    )


def test_what_a_term_leaves_out_comes_from_the_file() -> None:
    planned = plan([Steer(vector="known")], Shelf(), capabilities())

    assert planned is not None
    (only,) = planned.terms
    term = only.term
    assert (term.strength, term.phase, term.at, term.layers) == (0.7, "thinking", "boundary", None)
    assert only.applied(9).model_dump() == {
        "vector": "known",
        "digest": VECTOR.digest[:16],
        "layers": (0, 1, 2, 5),
        "strength": 0.7,
        "phase": "thinking",
        "at": "boundary",
        "prompt": False,
        "tokens": 9,
        "warning": None,
    }


def test_what_a_term_names_wins() -> None:
    steer = Steer(vector="known", strength=-0.6, phase="all", at="all", layers=(5, 1))

    planned = plan([steer], Shelf(), capabilities())

    assert planned is not None
    term = planned.terms[0].term
    assert (term.strength, term.phase, term.at, term.layers) == (-0.6, "all", "all", (1, 5))


@pytest.mark.parametrize(("strength", "warned"), [(0.49, True), (0.5, False), (1.01, True)])
def test_a_strength_outside_the_calibrated_range_is_warned_of(
    strength: float, warned: bool
) -> None:
    planned = plan([Steer(vector="known", strength=strength)], Shelf(), capabilities())

    assert planned is not None
    warning = planned.terms[0].applied(0).warning
    assert (warning is not None) == warned
    assert warning is None or "outside the range 0.5 to 1" in warning


@pytest.mark.parametrize(
    ("steer", "param", "message"),
    [
        (Steer(vector="other"), "control.steer[0].vector", "unknown vector 'other'"),
        (Steer(vector="known", layers=(1, 3)), "control.steer[0].layers[1]", "has: 0-2, 5"),
        (Steer(vector="known", layers=(1, 1)), "control.steer[0].layers[1]", "named twice"),
        (Steer(vector="known", layers=()), "control.steer[0].layers", "steers no layer"),
    ],
)
def test_a_term_that_cannot_be_applied_is_refused(steer: Steer, param: str, message: str) -> None:
    with pytest.raises(ControlError, match=message) as caught:
        plan([steer], Shelf(), capabilities())

    assert caught.value.param == param


def test_a_phase_needs_markers() -> None:
    with pytest.raises(ControlError) as caught:
        plan([Steer(vector="known", phase="answer")], Shelf(), capabilities(None))

    assert caught.value.param == "control.steer[0].phase"
    assert plan([Steer(vector="known", phase="all")], Shelf(), capabilities(None))
    several = Markers(start=(1, 2), end=(3,), start_text="<a>", end_text="</a>")
    assert plan([Steer(vector="known", phase="answer")], Shelf(), capabilities(several))


def test_the_number_of_terms_is_limited() -> None:
    with pytest.raises(ControlError, match="4 terms are over this server's limit of 3"):
        plan([Steer(vector="known")] * 4, Shelf(), capabilities())


def test_a_request_that_would_never_fit_is_refused_at_once() -> None:
    terms = [Steer(vector="known", phase="all"), Steer(vector="known", phase="answer")]

    with pytest.raises(ControlError, match="need 2 rows of the steering bank, which has 1") as e:
        plan([t.model_copy(update={"at": "all"}) for t in terms], Shelf(), capabilities(rows=1))

    assert e.value.param == "control.steer"


class Drawer:
    def get(self, name: str) -> Edit:
        if name != "known":
            raise EditError(f"unknown edit {name!r}", field="name")
        return EDIT


def test_an_edit_is_planned_beside_the_terms() -> None:
    chosen = ThinkEdit(edit="known", strength=0.5)

    both = plan([Steer(vector="known")], Shelf(), capabilities(), chosen, Drawer())
    alone = plan([], Shelf(), capabilities(), chosen, Drawer())

    assert both is not None
    assert alone is not None
    for planned in (both, alone):
        assert planned.configuration.edit == EditTerm(EDIT.digest, 0.5)
        assert planned.configuration.message(7).first == 0
        assert planned.edits == (EDIT,)
    assert alone.rows == ()
    assert both.edit is not None
    assert both.edit.applied(9).model_dump() == {
        "edit": "known",
        "digest": EDIT.digest[:16],
        "strength": 0.5,
        "heads": 1,
        "tokens": 9,
    }
    other = plan([], Shelf(), capabilities(), ThinkEdit(edit="known"), Drawer())
    assert other is not None
    assert other.configuration.digest != alone.configuration.digest


@pytest.mark.parametrize("strength", [16.5, -16.5, 1e39, -1e308])
def test_an_edit_is_bounded(strength: float) -> None:
    with pytest.raises(ControlError, match=r"is beyond 16: -16 to 16 is allowed") as caught:
        plan([], Shelf(), capabilities(), ThinkEdit(edit="known", strength=strength), Drawer())

    assert caught.value.param == "control.thinkedit.strength"
    assert plan([], Shelf(), capabilities(), ThinkEdit(edit="known", strength=-16.0), Drawer())


def test_terms_are_bounded_by_the_residual_stream() -> None:
    server = capabilities()
    steering = Steering(
        rows=8, bytes=0, runner="V1", model_digest="", dtype="bfloat16", residual_norms={5: 10.0}
    )
    server = server.model_copy(update={"steering": steering})

    with pytest.raises(ControlError, match=r"adds 5\.657 times the norm .* at layer 5") as caught:
        plan(
            [Steer(vector="known", strength=0.5), Steer(vector="known", strength=3.5)],
            Shelf(),
            server,
        )

    assert caught.value.param == "control.steer[1].strength"
    with pytest.raises(ControlError, match="not finite in this model's bfloat16"):
        plan([Steer(vector="known", strength=1e39, layers=(1,))], Shelf(), server)


def test_an_edit_that_cannot_be_chosen_is_refused() -> None:
    with pytest.raises(ControlError, match="unknown edit 'other'") as unknown:
        plan([], Shelf(), capabilities(), ThinkEdit(edit="other"), Drawer())

    assert unknown.value.param == "control.thinkedit.edit"
