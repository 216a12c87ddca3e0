"""What the user says about an image, and prompts simulated from masks. No torch here."""

from __future__ import annotations

from samed2.prompts.json_form import case_from_json, from_json, images_from_json, is_for_many_images, to_json
from samed2.prompts.simulate import (
    center_point,
    components,
    draw_shift,
    ellipse_mask,
    error_click,
    jitter_box,
    random_point,
    shift_box,
    tight_box,
)
from samed2.prompts.types import Box, ObjectPrompts, Point, Prompts
from samed2.prompts.volumes import CasePrompts

__all__ = [
    "Box",
    "CasePrompts",
    "ObjectPrompts",
    "Point",
    "Prompts",
    "case_from_json",
    "center_point",
    "components",
    "draw_shift",
    "ellipse_mask",
    "error_click",
    "from_json",
    "images_from_json",
    "is_for_many_images",
    "jitter_box",
    "random_point",
    "shift_box",
    "tight_box",
    "to_json",
]
