"""Labels beside points, placed so that they cover neither each other nor a point."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from steersman.evaluate.inference import Array

_ANGLES = np.linspace(0, 2 * np.pi, 24, endpoint=False)
_RADII = (6.0, 12.0, 20.0, 30.0, 42.0, 56.0, 75.0, 100.0)
# Half of a marker's size.
_GAP = 4.0
# Cost of a place that is nearer to another point than to the label's own, as an area.
_MISLEADING = 120.0
# A label further from its point than this gets a line to it.
_NEAR = 8.0


def place(points: Array, sizes: Array, area: tuple[float, float]) -> Array:
    """Find a place for the label of each point.

    Each label takes the nearest free place, and if there is none, the one that covers least. The
    most crowded point chooses first.

    Args:
        points: [points, 2], from the lower left of the area, in units of type (1/72 inch).
        sizes: Width and height of each label, [points, 2].
        area: Width and height of the area that labels keep to.

    Returns:
        The labels' lower left corners, [points, 2].

    """
    corners = np.zeros_like(points)
    boxes = [np.array([*(point - _GAP), *(point + _GAP)]) for point in points]
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    crowding = np.sort(distances, axis=1)[:, : min(4, len(points))].sum(axis=1)
    for index in np.argsort(crowding, kind="stable"):
        found = _candidates(points[index], sizes[index])
        costs = [
            _cost(corner, sizes[index], boxes, area)
            + _MISLEADING * _misleads(corner, sizes[index], points, int(index))
            for corner in found
        ]
        corners[index] = corner = found[int(np.argmin(costs))]
        boxes.append(np.array([*corner, *(corner + sizes[index])]))
    return corners


def annotate(axes: Axes, points: Array, names: Sequence[str], colours: Sequence[str]) -> None:
    """Write a name beside each point of finished axes, with a line to it where that is far.

    Args:
        axes: Axes with their final limits and scales, which the labels keep to.
        points: [points, 2], in the axes' data.
        names: Labels of the points.
        colours: Colours of the labels.

    """
    figure = axes.figure.figure
    # The layout is decided here. It stays, as labels take no part in it.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    box, pixel = axes.get_window_extent(), figure.dpi / 72
    origin = np.array([box.x0, box.y0])
    texts = [
        axes.annotate(name, point, fontsize=7.5, color=colour, annotation_clip=False)
        for name, point, colour in zip(names, points, colours, strict=True)
    ]
    extents = [text.get_window_extent() for text in texts]
    sizes = np.array([[extent.width, extent.height] for extent in extents]) / pixel
    places = (axes.transData.transform(points) - origin) / pixel
    corners = place(places, sizes, (box.width / pixel, box.height / pixel))
    for text, at, corner, size in zip(texts, places, corners, sizes, strict=True):
        text.set_position((float(corner[0] - at[0]), float(corner[1] - at[1])))
        text.set_anncoords("offset points")
        nearest = at.clip(corner, corner + size)
        if np.linalg.norm(nearest - at) > _NEAR:
            ends = axes.transData.inverted().transform(origin + np.array([at, nearest]) * pixel)
            axes.plot(*ends.T, color="0.6", linewidth=0.6, zorder=1)


def _misleads(corner: Array, size: Array, points: Array, index: int) -> bool:
    """True if a label is nearest to a point that is not its own."""
    distances = np.linalg.norm(points - points.clip(corner, corner + size), axis=1)
    return bool((distances <= distances[index]).sum() > 1)


def _candidates(point: Array, size: Array) -> list[Array]:
    """Lower left corners around a point, nearest first."""
    found = []
    for radius in _RADII:
        for angle in _ANGLES:
            direction = np.array([np.cos(angle), np.sin(angle)])
            centre = point + direction * (radius + size / 2)
            found.append(centre - size / 2)
    return found


def _cost(corner: Array, size: Array, boxes: Sequence[Array], area: tuple[float, float]) -> float:
    """Area of a label that is covered or outside."""
    far = corner + size
    outside = (-corner).clip(0).sum() + (far - np.array(area)).clip(0).sum()
    taken = np.array(boxes)
    widths = np.minimum(far[0], taken[:, 2]) - np.maximum(corner[0], taken[:, 0])
    heights = np.minimum(far[1], taken[:, 3]) - np.maximum(corner[1], taken[:, 1])
    return float((widths.clip(0) * heights.clip(0)).sum() + outside * size.sum())
