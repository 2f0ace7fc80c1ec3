"""Draws one person: a jointed body of tapered limbs, turned to the camera, clothed and shaded, at tiny CCTV size.

The body stands in its own frame: x to its left side's screen side, y up in body heights, z forward. Every part knows
which direction of the body a pixel faces, so a print stays on the chest and a backpack on the back as the body turns.
"""

from dataclasses import dataclass, replace

import numpy as np

from datasets.synthetic.appearance import Appearance, cloth_colours

# How deep a torso is, relative to its width.
DEPTH = 0.62
# Vertical shift on the picture per unit of depth: the camera looks down a little.
TILT = 0.16


@dataclass(frozen=True)
class Pose:
    """`yaw` in radians (0: facing the camera, pi: away), `phase` of the walk, `stride` and `swing` in radians.

    `arm` says what the arm on the bag's far side does: "swing", "phone" or "pocket".
    """

    yaw: float
    phase: float
    stride: float
    swing: float
    arm: str
    lean: float


@dataclass(frozen=True)
class Placement:
    """Where the feet stand, in pixels, the height of a body in pixels, and the side the light comes from (-1..1)."""

    x: float
    y: float
    scale: float
    light: float


def sample_pose(rng: np.random.Generator, yaw: float) -> Pose:
    """A walking or standing pose seen at about `yaw` radians."""
    walking = rng.random() < 0.8
    return Pose(
        yaw=yaw,
        phase=float(rng.uniform(0, 2 * np.pi)),
        stride=float(rng.uniform(0.25, 0.5) if walking else rng.uniform(0.0, 0.1)),
        swing=float(rng.uniform(0.15, 0.5) if walking else rng.uniform(0.0, 0.12)),
        arm=str(rng.choice(["swing", "phone", "pocket"], p=[0.76, 0.1, 0.14])),
        lean=float(rng.normal(0, 0.015)),
    )


class _Painter:
    """Blends parts into a picture (H, W, 3) float32 in [0, 1]; points are (x, y, z) of the body frame."""

    def __init__(self, image: np.ndarray, texture: np.ndarray, pose: Pose, placement: Placement, person: Appearance):
        self.image, self.texture, self.pose, self.place = image, texture, pose, placement
        self.scale = placement.scale * person.height
        self.cos, self.sin = np.cos(pose.yaw), np.sin(pose.yaw)

    def depth(self, point) -> float:
        """How far towards the camera a point is, in body heights."""
        return point[2] * self.cos - point[0] * self.sin

    def project(self, point) -> tuple[float, float]:
        """Picture coordinates (column, row) of a point."""
        across = point[0] * self.cos + point[2] * self.sin + self.pose.lean * point[1]
        return self.place.x + across * self.scale, self.place.y - (point[1] - TILT * self.depth(point)) * self.scale

    def half_width(self, half: np.ndarray | float, depth: float = DEPTH) -> np.ndarray | float:
        """Half the width on the picture, in pixels, of a body part `half` wide and `depth` times as deep."""
        return half * np.hypot(self.cos, depth * self.sin) * self.scale

    def grid(self, left: float, top: float, right: float, bottom: float):
        """Pixel columns (1, W) and rows (H, 1) of a box cut to the picture; None where nothing of it shows."""
        height, width = self.image.shape[:2]
        x0, x1 = max(int(left) - 1, 0), min(int(right) + 2, width)
        y0, y1 = max(int(top) - 1, 0), min(int(bottom) + 2, height)
        if x0 >= x1 or y0 >= y1:
            return None
        return np.arange(x0, x1, dtype=np.float32)[None], np.arange(y0, y1, dtype=np.float32)[:, None]

    def angle(self, across: np.ndarray) -> np.ndarray:
        """Body direction (radians in [-pi, pi]) that a pixel `across` (-1..1) the part's width faces."""
        angle = np.arcsin(np.clip(across, -1, 1)) - self.pose.yaw
        return (angle + np.pi) % (2 * np.pi) - np.pi

    def blend(self, x, y, alpha: np.ndarray, colours: np.ndarray, across: np.ndarray) -> None:
        """Paints `colours` where `alpha`, rounded by shading over `across` and creased by the texture."""
        box = slice(int(y[0, 0]), int(y[-1, 0]) + 1), slice(int(x[0, 0]), int(x[0, -1]) + 1)
        across = np.clip(across, -1, 1)
        shade = (1.04 - 0.34 * across**2 + 0.16 * self.place.light * across) * self.texture[box]
        patch = self.image[box]
        patch += alpha[..., None] * (colours * shade[..., None] - patch)

    def limb(self, start, end, radius0: float, radius1: float, colour_of) -> None:
        """A tapered capsule; `colour_of(angle, along)` gives its colours, `along` (H, W) from 0 to 1."""
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
        # Across the limb, from its left edge to its right one as the picture shows a limb that hangs down.
        across = (off_x * dy - off_y * dx) / np.sqrt(square) / radius if abs(dy) > 1 else off_x / radius
        self.blend(x, y, alpha, colour_of(self.angle(across), along), across)

    def column(self, heights, halves, colour_of, depth: float = DEPTH, offset=(0.0, 0.0)) -> None:
        """An upright part around the body's axis, `halves` wide at `heights` (falling); `offset`: (x, z) of its axis.

        `colour_of(angle, height)` gives its colours, `height` (H, W) in body heights.
        """
        heights, halves = np.asarray(heights, np.float32), np.asarray(halves, np.float32)
        ends = [self.project((offset[0], height, offset[1])) for height in (heights[0], heights[-1])]
        half = self.half_width(halves, depth)
        left, right = min(end[0] for end in ends) - half.max(), max(end[0] for end in ends) + half.max()
        grid = self.grid(left, ends[0][1], right, ends[1][1])
        if grid is None:
            return
        x, y = grid
        share = (y - ends[0][1]) / max(ends[1][1] - ends[0][1], 1e-3)
        height = heights[0] + share * (heights[-1] - heights[0])
        edge = np.interp(height, heights[::-1], half[::-1]).astype(np.float32)
        from_axis = x - (ends[0][0] + share * (ends[1][0] - ends[0][0]))
        alpha = np.clip(edge - np.abs(from_axis) + 0.5, 0, 1)
        alpha = alpha * np.clip(y - ends[0][1] + 0.5, 0, 1) * np.clip(ends[1][1] - y + 0.5, 0, 1)
        across = from_axis / np.maximum(edge, 1e-3)
        self.blend(x, y, alpha, colour_of(self.angle(across), height + 0 * x), across)

    def ball(self, centre, half_width: float, half_height: float, colour_of, depth: float = 1.15) -> None:
        """An ellipsoid; `colour_of(angle, v)` gives its colours, `v` (H, W) from -1 (top) to 1."""
        cx, cy = self.project(centre)
        a, b = float(self.half_width(half_width, depth)), half_height * self.scale
        grid = self.grid(cx - a, cy - b, cx + a, cy + b)
        if grid is None:
            return
        x, y = grid
        u, v = (x - cx) / a, (y - cy) / b
        alpha = np.clip((1 - np.sqrt(u**2 + v**2)) * min(a, b) + 0.5, 0, 1)
        across = u / np.sqrt(np.maximum(1 - v**2, 0.05))
        self.blend(x, y, alpha, colour_of(self.angle(across), v + 0 * x), across)

    def box(self, centre, half_width: float, half_height: float, half_depth: float, colour_of) -> None:
        """A box with round corners; `colour_of(angle, v)` as for `ball`."""
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
        self.blend(x, y, alpha, colour_of(self.angle((x - cx) / a), (y - cy) / b + 0 * x), 0.7 * (x - cx) / a + 0 * y)


def _plain(colour: np.ndarray):
    return lambda angle, along: np.broadcast_to(colour, (*along.shape, 3))


def render_person(
    image: np.ndarray, person: Appearance, pose: Pose, placement: Placement, texture: np.ndarray | None = None
) -> None:
    """Draws a person into a picture.

    Args:
        image: (H, W, 3) float32 RGB in [0, 1], painted in place.
        person: who it is.
        pose: how the body stands and where it looks.
        placement: where its feet are and how large it is.
        texture: (H, W) float32 around 1, creases of the cloth; None: none.
    """
    if texture is None:
        texture = np.ones(image.shape[:2], np.float32)
    painter = _Painter(image, texture, pose, placement, person)
    parts = [*_arms(painter, person), *_bags(painter, person)]
    behind = [part for part in parts if part[0] < 0]
    front = [part for part in parts if part[0] >= 0]
    for _, paint in sorted(behind, key=lambda part: part[0]):
        paint()
    for _, paint in sorted(_legs(painter, person), key=lambda part: part[0]):
        paint()
    _torso(painter, person)
    _head(painter, person)
    for _, paint in sorted(front, key=lambda part: part[0]):
        paint()


def _legs(painter: _Painter, person: Appearance) -> list:
    """Parts (depth, paint) of both legs, from hip to shoe."""
    pose, cut, parts = painter.pose, person.lower.cut, []
    top = 0.5 * person.legs
    bare = cut in ("shorts", "skirt", "long skirt") or person.upper.cut == "dress"
    wide = 0.012 if cut == "wide trousers" else 0.0

    for side in (-1, 1):
        swing = pose.stride * np.sin(pose.phase + (side > 0) * np.pi)
        bend = swing - pose.stride * max(0.0, np.cos(pose.phase + (side > 0) * np.pi)) - 0.08
        hip = np.array((side * 0.05 * person.width, top, 0.0))
        knee = hip + 0.47 * top * np.array((0, -np.cos(swing), np.sin(swing)))
        ankle = knee + 0.46 * top * np.array((0, -np.cos(bend), np.sin(bend)))
        toe = ankle + np.array((side * 0.012, -0.022, 0.075))

        def thigh(angle, along, side=side):
            colours = cloth_colours(person.lower, angle, 0.24 * along)
            covered = (cut == "shorts") * (along < 0.85) + (not bare) > 0
            return np.where(np.asarray(covered)[..., None], colours, person.skin)

        def calf(angle, along, side=side):
            colours = person.skin + 0 * along[..., None]
            if not bare:
                colours = cloth_colours(person.lower, angle, 0.24 + 0.2 * along)
            return np.where((person.boots & (along > 0.3))[..., None], person.shoes, colours)

        def paint(hip=hip, knee=knee, ankle=ankle, toe=toe, thigh=thigh, calf=calf):
            build = person.width
            painter.limb(ankle, toe, 0.026, 0.02, _plain(person.shoes))
            slim = 0.006 if bare else 0.0
            painter.limb(knee, ankle, 0.042 * build + wide - slim, 0.026 + 2 * wide - slim / 2, calf)
            painter.limb(hip, knee, 0.058 * build, 0.043 * build + wide, thigh)

        parts.append((painter.depth(knee), paint))
    return parts


def _torso(painter: _Painter, person: Appearance) -> None:
    """Skirt, upper garment with its straps, and neck."""
    width, cut, shoulder = person.width, person.upper.cut, 0.815
    top, bag = 0.5 * person.legs, person.bag
    upper = person.upper
    dress = cut == "dress"
    if person.lower.cut in ("skirt", "long skirt") or dress:
        cloth = upper if dress else person.lower
        hem = top - (0.36 if person.lower.cut == "long skirt" else 0.2)
        flare = np.array([0.085, 0.1, 0.125 + 0.02 * (not dress)]) * width
        painter.column((top + 0.08, top, hem), flare, lambda a, h: cloth_colours(cloth, a, shoulder - h), depth=0.8)

    def colours(angle, height):
        drop = shoulder - height
        result = cloth_colours(upper, angle, drop)
        if cut == "open jacket":
            inner = np.abs(angle) < 0.25 + 1.1 * drop
            result = np.where(inner[..., None], upper.accent if upper.pattern != "block" else person.skin, result)
        if cut in ("coat", "hoodie"):
            result = np.where((np.abs(angle) < 0.09)[..., None], 0.6 * result, result)
        strap = None
        if bag == "backpack":
            strap = (np.abs(np.abs(angle) - 0.62) < 0.15) & (drop < 0.2)
        if bag == "messenger":
            strap = np.abs(np.sin(angle) - person.bag_side * (5.0 * drop - 0.7)) < 0.16
        return result if strap is None else np.where(strap[..., None], person.bag_colour, result)

    loose = 0.008 if cut in ("open jacket", "hoodie", "coat") else 0.0
    hem = {"coat": top - 0.17, "hoodie": top - 0.01, "open jacket": top - 0.015}.get(cut, top + 0.005)
    heights = (0.838, 0.824, 0.806, 0.75, 0.68, 0.6, top + 0.02, hem)
    halves = np.array([0.045, 0.085, 0.108, 0.112, 0.1, 0.09 + 0.25 * max(0, width - 1), 0.097, 0.098]) * width
    halves[2:] += loose
    if cut == "coat":
        halves[-2:] += (0.004, 0.024)
    painter.limb((0, 0.83, 0), (0, 0.885, 0.01), 0.032, 0.03, _plain(0.9 * person.skin))
    painter.column(heights, halves, colours)


def _arms(painter: _Painter, person: Appearance) -> list:
    """Parts (depth, paint) of both arms."""
    pose, width, cut, parts = painter.pose, person.width, person.upper.cut, []
    sleeve = {"vest": -1.0, "t-shirt": 0.75, "dress": 0.75}.get(cut, 2.0)
    thick = 1.15 if cut in ("open jacket", "hoodie", "coat") else 1.0
    plain = person.upper.pattern in ("print", "panels", "dots", "vertical")
    cloth = replace(person.upper, pattern="plain") if plain else person.upper
    for side in (-1, 1):
        swing = pose.swing * np.sin(pose.phase + (side < 0) * np.pi)
        carries = side == person.bag_side and person.bag in ("handbag", "shopping", "suitcase")
        bend, inward = swing + 0.3, 0.0
        if carries:
            swing, bend = 0.1 * swing, 0.05
        elif pose.arm == "phone" and side == -person.bag_side:
            swing, bend = 0.35, 2.5
        elif pose.arm == "pocket":
            swing, bend, inward = -0.2, 0.5, 0.05
        joint = np.array((side * 0.103 * width, 0.795, 0.0))
        elbow = joint + np.array((side * 0.028, -0.165 * np.cos(swing), 0.165 * np.sin(swing)))
        hand = elbow + np.array((-side * inward, -0.15 * np.cos(bend), 0.15 * np.sin(bend)))

        def upper_arm(angle, along):
            return np.where((along < sleeve)[..., None], cloth_colours(cloth, angle, 0.02 + 0.165 * along), person.skin)

        def forearm(angle, along):
            covered = (sleeve > 1) & (along < 0.93)
            return np.where(covered[..., None], cloth_colours(cloth, angle, 0.185 + 0.15 * along), person.skin)

        def paint(joint=joint, elbow=elbow, hand=hand, upper_arm=upper_arm, forearm=forearm):
            build = thick * (0.5 + 0.5 * width)
            painter.limb(elbow, hand, 0.028 * build, 0.022 * build, forearm)
            painter.limb(hand, hand + 0.12 * (hand - elbow), 0.02, 0.018, _plain(person.skin))
            painter.limb(joint, elbow, 0.036 * build, 0.029 * build, upper_arm)

        parts.append((painter.depth(elbow) + 0.02, paint))
    return parts


def _bags(painter: _Painter, person: Appearance) -> list:
    """Parts (depth, paint) of what the person carries."""
    side, colour = person.bag_side, person.bag_colour
    out = side * (0.125 * person.width + 0.025)
    shapes = {
        "backpack": ((0, 0.69, -0.105), 0.088, 0.115, 0.055),
        "handbag": ((out + side * 0.02, 0.43, 0.01), 0.035, 0.05, 0.075),
        "messenger": ((out, 0.47, -0.02), 0.035, 0.055, 0.085),
        "shopping": ((out + side * 0.01, 0.34, 0.0), 0.045, 0.085, 0.07),
        "suitcase": ((out + side * 0.05, 0.14, -0.1), 0.07, 0.13, 0.05),
    }
    if person.bag not in shapes:
        return []
    centre, half_width, half_height, half_depth = shapes[person.bag]

    def texture(angle, v):
        dark = (np.abs(v - 0.15) < 0.07) | (v < -0.85)
        return np.where(dark[..., None], 0.55 * colour, np.broadcast_to(colour, (*v.shape, 3)))

    def paint():
        if person.bag in ("handbag", "suitcase", "shopping"):
            top = (centre[0], centre[1] + half_height, centre[2])
            painter.limb(top, (out, 0.49, 0.0), 0.008, 0.008, _plain(0.7 * colour))
        painter.box(centre, half_width, half_height, half_depth, texture)

    return [(painter.depth(centre), paint)]


def _head(painter: _Painter, person: Appearance) -> None:
    """Head, hair and hat."""
    style, hair = person.hair_style, person.hair
    centre = (0.0, 0.918, 0.012)
    away = painter.cos < 0
    worn = person.upper.colour if style == "hood" else person.bag_colour if style == "cap" else hair
    line = {"buzz": -0.6, "afro": -0.35, "cap": -0.15, "hood": -0.5}.get(style, -0.4)
    nape = {"buzz": 0.0, "short": 0.35, "cap": -0.15, "bun": 0.45, "ponytail": 0.45}.get(style, 1.1)

    def colours(angle, v):
        face = np.abs(angle) < (0.75 if style == "hood" else 1.15)
        hidden = np.where(face, v < line, v < nape)
        skin = person.skin * np.where((np.abs(v - 0.02) < 0.1) & (np.abs(angle) < 0.7), 0.72, 1.0)[..., None]
        return np.where(hidden[..., None], worn, skin)

    def tail():
        if style == "long":
            painter.column((0.95, 0.9, 0.8, 0.73), (0.05, 0.064, 0.07, 0.045), _plain(hair), 0.75, (0.0, -0.022))
        if style == "ponytail":
            painter.limb((0, 0.94, -0.055), (0, 0.79, -0.085), 0.026, 0.018, _plain(hair))

    if style == "afro":
        painter.ball((0, 0.937, -0.006), 0.078, 0.078, _plain(hair))
    if not away:
        tail()
    if style == "bun":
        painter.ball((0, 0.982, -0.03), 0.03, 0.03, _plain(hair))
    grown = 1.2 if style == "hood" else 1.0
    painter.ball(centre, 0.05 * grown, 0.068 * (1.08 if style == "hood" else 1.0), colours)
    if style == "cap":
        painter.limb((0, 0.942, 0.05), (0, 0.938, 0.1), 0.016, 0.012, _plain(0.8 * worn))
    if away:
        tail()
