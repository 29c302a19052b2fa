"""A brain of nested balls whose tissues are known, and distances by the letter."""

import numpy as np

COARSE = (2.0, 2.0, 2.0)


def ball(shape, centre, radius):
    return sum((g - c) ** 2 for g, c in zip(np.indices(shape), centre, strict=True)) <= radius**2


def nearest(points, targets, spacing):
    """Literal distance of each point to the nearest target."""
    return np.array([np.linalg.norm((targets - point) * spacing, axis=1).min() for point in points])


def brain():
    """Grey matter (radius 68 mm) around white matter with two ventricles, and fluid in a sulcus; voxels of 2 mm."""
    shape = (36, 36, 36)
    inside, white = ball(shape, (18, 18, 18), 17), ball(shape, (18, 18, 18), 14)
    lateral = ball(shape, (15, 18, 18), 3) | ball(shape, (20, 18, 18), 2)  # they touch: one part
    image = np.zeros((2, *shape), np.float32)
    for part, values in (
        (inside, (0.5, -0.6)),
        (white, (0.1, 1.0)),
        (lateral | ball(shape, (18, 18, 33), 2), (-3, -3)),
    ):
        image[:, part & inside] = np.array(values)[:, None]
    noise = np.random.default_rng(0).normal(0, 0.05, image.shape)
    return np.where(image != 0, image + noise, 0).astype(np.float32), inside, white & ~lateral, lateral
