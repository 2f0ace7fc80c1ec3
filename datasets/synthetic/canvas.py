"""Renders the simple shapes that a body is made of: tapered limbs, upright columns, ellipsoids and boxes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

# How deep a torso is, relative to its width.
DEPTH = 0.62
# Vertical shift in the image per unit of depth: the camera looks down a little.
TILT = 0.16

# Gives the colours, (H, W, 3), at (H, W) body directions in radians and (H, W) positions along the part.
Colours = Callable[[np.ndarray, np.ndarray], np.ndarray]
Point = np.ndarray | tuple[float, float, float]


@dataclass(frozen=True)
class Pose:
    """How a body stands.

    Attributes:
        yaw: direction in radians; 0: facing the camera, pi: away.
        phase: of the walk, in radians.
        stride: largest angle of a leg, in radians.
        swing: largest angle of an arm, in radians.
        arm: what the arm on the side without the bag does: "swing", "phone" or "pocket".
        lean: shift to the side per height.
    """

    yaw: float
    phase: float
    stride: float
    swing: float
    arm: str
    lean: float


@dataclass(frozen=True)
class Placement:
    """Where a body stands in the image.

    Attributes:
        x, y: column and row of the feet, in pixels.
        scale: height of a body of height 1, in pixels.
        light: side that the light comes from, -1 to 1.
    """

    x: float
    y: float
    scale: float
    light: float


class Canvas:
    """Blends shapes into an image; points are (x, y, z) of the body frame: left, up, forward, in body heights.

    Args:
        image: (H, W, 3) float32 RGB in [0, 1], modified in place.
        texture: (H, W) float32 around 1, creases of the cloth.
        pose: how the body stands.
        placement: where it stands.
        height: of the body, around 1.
    """

    def __init__(self, image: np.ndarray, texture: np.ndarray, pose: Pose, placement: Placement, height: float) -> None:
        self.image, self.texture, self.pose, self.placement = image, texture, pose, placement
        self.scale = placement.scale * height
        self.cos, self.sin = np.cos(pose.yaw), np.sin(pose.yaw)

    def depth(self, point: Point) -> float:
        """How far towards the camera a point is, in body heights."""
        return point[2] * self.cos - point[0] * self.sin

    def project(self, point: Point) -> tuple[float, float]:
        """Image coordinates (column, row) of a point, in pixels."""
        across = point[0] * self.cos + point[2] * self.sin + self.pose.lean * point[1]
        up = point[1] - TILT * self.depth(point)
        return self.placement.x + across * self.scale, self.placement.y - up * self.scale

    def foreshortening(self, depth: float) -> float:
        """Factor on the width of a part that is `depth` times as deep as wide, by the direction of the body."""
        return np.hypot(self.cos, depth * self.sin)

    def grid(self, left: float, top: float, right: float, bottom: float) -> tuple[np.ndarray, np.ndarray] | None:
        """Pixel columns (1, W) and rows (H, 1) of a box, cropped to the image; None if the box is outside."""
        height, width = self.image.shape[:2]
        x0, x1 = max(int(left) - 1, 0), min(int(right) + 2, width)
        y0, y1 = max(int(top) - 1, 0), min(int(bottom) + 2, height)
        if x0 >= x1 or y0 >= y1:
            return None
        return np.arange(x0, x1, dtype=np.float32)[None], np.arange(y0, y1, dtype=np.float32)[:, None]

    def angle(self, across: np.ndarray) -> np.ndarray:
        """Body direction, in radians in [-pi, pi], of a pixel at `across` (-1 to 1) of the part's width."""
        angle = np.arcsin(np.clip(across, -1, 1)) - self.pose.yaw
        return (angle + np.pi) % (2 * np.pi) - np.pi

    def blend(self, x: np.ndarray, y: np.ndarray, alpha: np.ndarray, colours: np.ndarray, across: np.ndarray) -> None:
        """Blends `colours` in by `alpha`, shaded over `across` as on a round part and creased by the texture."""
        box = slice(int(y[0, 0]), int(y[-1, 0]) + 1), slice(int(x[0, 0]), int(x[0, -1]) + 1)
        across = np.clip(across, -1, 1)
        shade = (1.04 - 0.34 * across**2 + 0.16 * self.placement.light * across) * self.texture[box]
        patch = self.image[box]
        patch += alpha[..., None] * (colours * shade[..., None] - patch)

    def limb(self, start: Point, end: Point, radius0: float, radius1: float, colours: Colours) -> None:
        """Renders a tapered capsule; `colours(angle, along)` with `along` from 0 (start) to 1 (end)."""
        (ax, ay), (bx, by) = self.project(start), self.project(end)
        r0, r1 = radius0 * self.scale, radius1 * self.scale
        r = max(r0, r1)
        grid = self.grid(min(ax, bx) - r, min(ay, by) - r, max(ax, bx) + r, max(ay, by) + r)
        if grid is None:
            return
        x, y = grid
        dx, dy = bx - ax, by - ay
        square = max(dx * dx + dy * dy, 1e-6)
        along = np.clip(((x - ax) * dx + (y - ay) * dy) / square, 0, 1)
        radius = r0 + (r1 - r0) * along
        off_x, off_y = x - ax - along * dx, y - ay - along * dy
        alpha = np.clip(radius - np.sqrt(off_x**2 + off_y**2) + 0.5, 0, 1)
        # Across the limb, from left to right in the image for a limb that hangs down.
        across = (off_x * dy - off_y * dx) / np.sqrt(square) / radius if abs(dy) > 1 else off_x / radius
        self.blend(x, y, alpha, colours(self.angle(across), along), across)

    def column(
        self,
        heights: Sequence[float],
        half_widths: Sequence[float] | np.ndarray,
        colours: Colours,
        depth: float = DEPTH,
        offset: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        """Renders an upright part; `colours(angle, height)` with `height` in body heights.

        Args:
            heights: falling.
            half_widths: half the width at each of `heights`.
            colours: of the part.
            depth: relative to its width.
            offset: (x, z) of its axis.
        """
        levels, halves = np.asarray(heights, np.float32), np.asarray(half_widths, np.float32)
        ends = [self.project((offset[0], height, offset[1])) for height in (levels[0], levels[-1])]
        halves = halves * self.foreshortening(depth) * self.scale
        left, right = min(end[0] for end in ends) - halves.max(), max(end[0] for end in ends) + halves.max()
        grid = self.grid(left, ends[0][1], right, ends[1][1])
        if grid is None:
            return
        x, y = grid
        fraction = (y - ends[0][1]) / max(ends[1][1] - ends[0][1], 1e-3)
        height = levels[0] + fraction * (levels[-1] - levels[0])
        edge = np.interp(height, levels[::-1], halves[::-1]).astype(np.float32)
        from_axis = x - (ends[0][0] + fraction * (ends[1][0] - ends[0][0]))
        alpha = np.clip(edge - np.abs(from_axis) + 0.5, 0, 1)
        alpha = alpha * np.clip(y - ends[0][1] + 0.5, 0, 1) * np.clip(ends[1][1] - y + 0.5, 0, 1)
        across = from_axis / np.maximum(edge, 1e-3)
        self.blend(x, y, alpha, colours(self.angle(across), height + 0 * x), across)

    def ball(self, centre: Point, half_width: float, half_height: float, colours: Colours, depth: float = 1.15) -> None:
        """Renders an ellipsoid; `colours(angle, v)` with `v` from -1 (top) to 1 (bottom)."""
        cx, cy = self.project(centre)
        a, b = float(half_width * self.foreshortening(depth) * self.scale), half_height * self.scale
        grid = self.grid(cx - a, cy - b, cx + a, cy + b)
        if grid is None:
            return
        x, y = grid
        u, v = (x - cx) / a, (y - cy) / b
        alpha = np.clip((1 - np.sqrt(u**2 + v**2)) * min(a, b) + 0.5, 0, 1)
        across = u / np.sqrt(np.maximum(1 - v**2, 0.05))
        self.blend(x, y, alpha, colours(self.angle(across), v + 0 * x), across)

    def box(self, centre: Point, half_width: float, half_height: float, half_depth: float, colours: Colours) -> None:
        """Renders a box with round corners; `colours(angle, v)` as for `ball`."""
        cx, cy = self.project(centre)
        a = float(np.hypot(half_width * self.cos, half_depth * self.sin)) * self.scale
        b = half_height * self.scale
        grid = self.grid(cx - a, cy - b, cx + a, cy + b)
        if grid is None:
            return
        x, y = grid
        corner = 0.35 * min(a, b)
        out_x, out_y = np.maximum(np.abs(x - cx) - a + corner, 0), np.maximum(np.abs(y - cy) - b + corner, 0)
        alpha = np.clip(corner - np.sqrt(out_x**2 + out_y**2) + 0.5, 0, 1)
        angle = self.angle((x - cx) / a)
        self.blend(x, y, alpha, colours(angle, (y - cy) / b + 0 * x), 0.7 * (x - cx) / a + 0 * y)


def plain(colour: np.ndarray) -> Colours:
    """The same colour everywhere."""
    return lambda angle, along: np.broadcast_to(colour, (*along.shape, 3))
