"""Renders one person: a jointed body of tapered limbs, turned to the camera, clothed and shaded, at CCTV size.

The body has its own frame: x to its left side, y up in body heights, z forward. Every part knows which direction of the
body a pixel faces, so a print stays on the chest and a backpack on the back as the body turns.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from datasets.synthetic.appearance import Appearance, cloth_colours
from datasets.synthetic.canvas import Canvas, Placement, Pose, plain


class Part(NamedTuple):
    """A part of the body: how far towards the camera it is, in body heights, and what renders it."""

    depth: float
    render: Callable[[], None]


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


def render_person(
    image: np.ndarray, person: Appearance, pose: Pose, placement: Placement, texture: np.ndarray | None = None
) -> None:
    """Renders a person into an image.

    Args:
        image: (H, W, 3) float32 RGB in [0, 1], modified in place.
        person: clothes, hair, bag and build.
        pose: how the body stands and which way it faces.
        placement: where its feet are and how large it is.
        texture: (H, W) float32 around 1, creases of the cloth; None: no creases.
    """
    if texture is None:
        texture = np.ones(image.shape[:2], np.float32)
    canvas = Canvas(image, texture, pose, placement, person.height)
    parts = [*_arms(canvas, person), *_bags(canvas, person)]
    _render_far_to_near([part for part in parts if part.depth < 0])
    _render_far_to_near(_legs(canvas, person))
    _render_torso(canvas, person)
    _render_head(canvas, person)
    _render_far_to_near([part for part in parts if part.depth >= 0])


def _render_far_to_near(parts: list[Part]) -> None:
    for part in sorted(parts, key=lambda part: part.depth):
        part.render()


def _legs(canvas: Canvas, person: Appearance) -> list[Part]:
    """Both legs, from hip to shoe."""
    pose, cut = canvas.pose, person.lower.cut
    parts = []
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

        def thigh(angle: np.ndarray, along: np.ndarray) -> np.ndarray:
            colours = cloth_colours(person.lower, angle, 0.24 * along)
            covered = (cut == "shorts") * (along < 0.85) + (not bare) > 0
            return np.where(np.asarray(covered)[..., None], colours, person.skin)

        def calf(angle: np.ndarray, along: np.ndarray) -> np.ndarray:
            colours = person.skin + 0 * along[..., None]
            if not bare:
                colours = cloth_colours(person.lower, angle, 0.24 + 0.2 * along)
            return np.where((person.boots & (along > 0.3))[..., None], person.shoes, colours)

        def render(hip=hip, knee=knee, ankle=ankle, toe=toe, thigh=thigh, calf=calf):
            build = person.width
            canvas.limb(ankle, toe, 0.026, 0.02, plain(person.shoes))
            slim = 0.006 if bare else 0.0
            canvas.limb(knee, ankle, 0.042 * build + wide - slim, 0.026 + 2 * wide - slim / 2, calf)
            canvas.limb(hip, knee, 0.058 * build, 0.043 * build + wide, thigh)

        parts.append(Part(canvas.depth(knee), render))
    return parts


def _render_torso(canvas: Canvas, person: Appearance) -> None:
    """Renders skirt, upper garment with straps, and neck."""
    width, cut, shoulder = person.width, person.upper.cut, 0.815
    top, bag = 0.5 * person.legs, person.bag
    upper = person.upper
    dress = cut == "dress"
    if person.lower.cut in ("skirt", "long skirt") or dress:
        cloth = upper if dress else person.lower
        hem = top - (0.36 if person.lower.cut == "long skirt" else 0.2)
        flare = np.array([0.085, 0.1, 0.125 + 0.02 * (not dress)]) * width
        canvas.column((top + 0.08, top, hem), flare, lambda a, h: cloth_colours(cloth, a, shoulder - h), depth=0.8)

    def colours(angle: np.ndarray, height: np.ndarray) -> np.ndarray:
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
    canvas.limb((0, 0.83, 0), (0, 0.885, 0.01), 0.032, 0.03, plain(0.9 * person.skin))
    canvas.column(heights, halves, colours)


def _arms(canvas: Canvas, person: Appearance) -> list[Part]:
    """Both arms."""
    pose, width, cut = canvas.pose, person.width, person.upper.cut
    parts = []
    sleeve = {"vest": -1.0, "t-shirt": 0.75, "dress": 0.75}.get(cut, 2.0)
    thick = 1.15 if cut in ("open jacket", "hoodie", "coat") else 1.0
    unpatterned = person.upper.pattern in ("print", "panels", "dots", "vertical")
    cloth = replace(person.upper, pattern="plain") if unpatterned else person.upper
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
        shoulder = np.array((side * 0.103 * width, 0.795, 0.0))
        elbow = shoulder + np.array((side * 0.028, -0.165 * np.cos(swing), 0.165 * np.sin(swing)))
        hand = elbow + np.array((-side * inward, -0.15 * np.cos(bend), 0.15 * np.sin(bend)))

        def upper_arm(angle: np.ndarray, along: np.ndarray) -> np.ndarray:
            return np.where((along < sleeve)[..., None], cloth_colours(cloth, angle, 0.02 + 0.165 * along), person.skin)

        def forearm(angle: np.ndarray, along: np.ndarray) -> np.ndarray:
            covered = (sleeve > 1) & (along < 0.93)
            return np.where(covered[..., None], cloth_colours(cloth, angle, 0.185 + 0.15 * along), person.skin)

        def render(shoulder=shoulder, elbow=elbow, hand=hand, upper_arm=upper_arm, forearm=forearm):
            build = thick * (0.5 + 0.5 * width)
            canvas.limb(elbow, hand, 0.028 * build, 0.022 * build, forearm)
            canvas.limb(hand, hand + 0.12 * (hand - elbow), 0.02, 0.018, plain(person.skin))
            canvas.limb(shoulder, elbow, 0.036 * build, 0.029 * build, upper_arm)

        parts.append(Part(canvas.depth(elbow) + 0.02, render))
    return parts


def _bags(canvas: Canvas, person: Appearance) -> list[Part]:
    """The bag, if the person carries one."""
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

    def colours(angle: np.ndarray, v: np.ndarray) -> np.ndarray:
        dark = (np.abs(v - 0.15) < 0.07) | (v < -0.85)
        return np.where(dark[..., None], 0.55 * colour, np.broadcast_to(colour, (*v.shape, 3)))

    def render():
        if person.bag in ("handbag", "suitcase", "shopping"):
            top = (centre[0], centre[1] + half_height, centre[2])
            canvas.limb(top, (out, 0.49, 0.0), 0.008, 0.008, plain(0.7 * colour))
        canvas.box(centre, half_width, half_height, half_depth, colours)

    return [Part(canvas.depth(centre), render)]


def _render_head(canvas: Canvas, person: Appearance) -> None:
    """Renders head, hair and hat."""
    style, hair = person.hair_style, person.hair
    centre = (0.0, 0.918, 0.012)
    away = canvas.cos < 0
    worn = person.upper.colour if style == "hood" else person.bag_colour if style == "cap" else hair
    line = {"buzz": -0.6, "afro": -0.35, "cap": -0.15, "hood": -0.5}.get(style, -0.4)
    nape = {"buzz": 0.0, "short": 0.35, "cap": -0.15, "bun": 0.45, "ponytail": 0.45}.get(style, 1.1)

    def colours(angle: np.ndarray, v: np.ndarray) -> np.ndarray:
        face = np.abs(angle) < (0.75 if style == "hood" else 1.15)
        hidden = np.where(face, v < line, v < nape)
        skin = person.skin * np.where((np.abs(v - 0.02) < 0.1) & (np.abs(angle) < 0.7), 0.72, 1.0)[..., None]
        return np.where(hidden[..., None], worn, skin)

    def render_tail() -> None:
        if style == "long":
            canvas.column((0.95, 0.9, 0.8, 0.73), (0.05, 0.064, 0.07, 0.045), plain(hair), 0.75, (0.0, -0.022))
        if style == "ponytail":
            canvas.limb((0, 0.94, -0.055), (0, 0.79, -0.085), 0.026, 0.018, plain(hair))

    if style == "afro":
        canvas.ball((0, 0.937, -0.006), 0.078, 0.078, plain(hair))
    if not away:
        render_tail()
    if style == "bun":
        canvas.ball((0, 0.982, -0.03), 0.03, 0.03, plain(hair))
    grown = 1.2 if style == "hood" else 1.0
    canvas.ball(centre, 0.05 * grown, 0.068 * (1.08 if style == "hood" else 1.0), colours)
    if style == "cap":
        canvas.limb((0, 0.942, 0.05), (0, 0.938, 0.1), 0.016, 0.012, plain(0.8 * worn))
    if away:
        render_tail()
