"""Write names beside the points of a plot so that they cover nothing."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.path import Path
from matplotlib.transforms import Bbox

# From a point to its name, to the right and up, where names shall stand above their points; else turned round.
DIRECTIONS = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (-1, -1), (0, -1), (1, -1), (-1, 0.5), (1, 0.5), (1, -0.5))
DISTANCES = (4, 10, 16, 24, 34, 46, 60, 80)  # points
NEAR = 4  # points: up to here no line has to say whose name it is
MOST = 60  # names: more of them help nobody, and each takes time
STYLE: dict[str, Any] = {"textcoords": "offset points", "fontsize": 8, "ha": "center", "va": "center"}
LINE = {"arrowstyle": "-", "color": "0.6", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}


@dataclass(frozen=True)
class Name:
    """What to write beside the point (x, y) of the axes, rather above it or rather below."""

    x: float
    y: float
    text: str
    above: bool


@dataclass(frozen=True)
class Place:
    """Of a name: its point in pixels, its offset from there in points, its box, and the line between if it is far."""

    point: tuple[float, float]
    offset: tuple[float, float]
    box: Bbox
    line: Path | None


def place_names(axes: Axes, names: Sequence[Name]) -> None:
    """Write each name as near its point as it covers neither another name nor what is drawn, or leave it out.

    The first of them choose first; those after MOST are left out. What is drawn are points, lines and bars; the limits
    of the axes and their place in the figure must be final.
    """
    frame, drawn, taken = axes.get_window_extent(), [*_drawn(axes)], list[Place]()
    for name in names[:MOST]:
        text = axes.annotate(name.text, (name.x, name.y), (0, 0), **STYLE)
        places = _places(text.get_window_extent(), _pixels(axes), 1 if name.above else -1)
        text.remove()
        place = next((each for each in places if _inside(each.box, frame) and _is_free(each, drawn, taken)), None)
        if place:
            taken.append(place)
            line = LINE if place.line else None
            axes.annotate(name.text, (name.x, name.y), place.offset, arrowprops=line, **STYLE)


def _pixels(axes: Axes) -> float:
    """How many a point has."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    return figure.dpi / 72


def _drawn(axes: Axes) -> Iterator[Bbox]:
    """The boxes in pixels of the points and of the pieces of the lines in `axes`."""
    paths = [(path, lines.get_transform()) for lines in axes.collections for path in lines.get_paths()]
    for line in axes.lines:
        radius = line.get_markersize() / 2 * _pixels(axes)
        if line.get_marker() != "None":
            yield from (
                Bbox([corner, corner]).padded(radius) for corner in line.get_transform().transform(line.get_xydata())
            )
        if line.get_linestyle() != "None":
            paths.append((line.get_path(), line.get_transform()))
    for path, transform in paths:
        for ends in pairwise(transform.transform(path.vertices)):
            yield Bbox([np.minimum(*ends), np.maximum(*ends)]).padded(1)


def _places(middle: Bbox, pixels: float, sign: int) -> Iterator[Place]:
    """Where the name with the box `middle` around its point can go, the nearest first.

    `pixels` a point has, `sign` is that of the directions to take.
    """
    x, y = (middle.x0 + middle.x1) / 2, (middle.y0 + middle.y1) / 2
    for distance, (right, up) in product(DISTANCES, DIRECTIONS):
        dx = sign * right * (distance * pixels + middle.width / 2)
        dy = sign * up * (distance * pixels + middle.height / 2)
        line = Path([(x, y), (x + dx, y + dy)]) if distance > NEAR else None
        yield Place((x, y), (dx / pixels, dy / pixels), middle.translated(dx, dy), line)


def _inside(box: Bbox, frame: Bbox) -> bool:
    return frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1


def _is_free(place: Place, drawn: Sequence[Bbox], taken: Sequence[Place]) -> bool:
    names, lines = [other.box for other in taken], [other.line for other in taken if other.line]
    if place.box.count_overlaps([*drawn, *names]) or any(_cut(line, place.box) for line in lines):
        return False
    if place.line is None:
        return True
    others = [box for box in drawn if not box.contains(*place.point)]
    return not any(_cut(place.line, box) for box in (*others, *names)) and not any(
        map(place.line.intersects_path, lines)
    )


def _cut(line: Path, box: Bbox) -> bool:
    return line.intersects_bbox(box, filled=False)
