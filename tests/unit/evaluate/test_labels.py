"""Places of labels beside the points of a picture."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from steersman.evaluate.inference import Array
from steersman.evaluate.labels import annotate, place

AREA = (500.0, 300.0)
SIZE = (60.0, 10.0)


def covered(corners: Array, others: Array, size: Array) -> Array:
    """Area that each box shares with each other box, both of one size: [boxes, others]."""
    gaps = size - np.abs(corners[:, None] - others[None])
    return gaps.clip(0).prod(axis=-1)


@pytest.mark.parametrize("seed", range(5))
def test_labels_cover_neither_each_other_nor_a_point(seed: int) -> None:
    points = np.random.default_rng(seed).uniform(60, 240, (20, 2))
    sizes = np.tile(SIZE, (20, 1))
    corners = place(points, sizes, AREA)
    shared = covered(corners, corners, sizes[0])
    assert (shared[~np.eye(20, dtype=bool)] == 0).all()
    inside = (points[:, None] > corners[None]) & (points[:, None] < corners[None] + sizes[None])
    assert not inside.all(axis=-1).any()
    assert (corners >= 0).all()
    assert (corners + sizes <= AREA).all()


def test_a_label_keeps_to_its_area_in_a_corner() -> None:
    points = np.array([[2.0, 2.0], [498.0, 298.0]])
    corners = place(points, np.tile(SIZE, (2, 1)), AREA)
    assert (corners >= 0).all()
    assert (corners + SIZE <= AREA).all()


def test_a_label_is_nearest_to_its_own_point() -> None:
    points = np.array([[250.0, 150.0], [262.0, 150.0], [250.0, 162.0]])
    corners = place(points, np.tile(SIZE, (3, 1)), AREA)
    for index, corner in enumerate(corners):
        nearest = points.clip(corner, corner + SIZE)
        assert np.linalg.norm(points - nearest, axis=1).argmin() == index


def test_only_a_label_away_from_its_point_gets_a_line() -> None:
    def lines(points: Array) -> int:
        figure = Figure(figsize=(5, 3), layout="constrained")
        axes = figure.subplots()
        axes.set(xlim=(0, 1), ylim=(0, 1))
        annotate(axes, points, [f"control {i}" for i in range(len(points))], ["red"] * len(points))
        assert {text.get_text() for text in axes.texts} == {
            f"control {i}" for i in range(len(points))
        }
        return len(axes.lines)

    assert lines(np.array([[0.2, 0.5], [0.6, 0.5]])) == 0
    crowd = np.random.default_rng(0).uniform(0.45, 0.55, (20, 2))
    assert lines(crowd) > 5
