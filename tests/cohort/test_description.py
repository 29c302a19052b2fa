"""Cohort descriptions: lesions and noise of known size, place, distance and contrast."""

import numpy as np
import pytest
from scipy import ndimage

from lib.cohort.description import (
    PLACES,
    border_profile,
    bright_lesion,
    frequency_map,
    instance_volumes,
    measure_cohort,
    measure_contrasts,
    measure_scan,
    nearest_positions,
    template_distances,
    white_matter_noise,
)
from lib.cohort.phantom import make_cohort
from lib.scans.images import load_scan
from lib.scans.table import find_scans


def test_volumes_are_those_of_18_connected_instances():
    lesions = np.zeros((6, 6, 6), bool)
    lesions[0, 0, 0] = lesions[1, 1, 0] = True  # touch along an edge: one instance
    lesions[4, 4, 4] = lesions[5, 5, 5] = True  # touch at a corner: two
    volumes = instance_volumes(lesions, np.diag([1, 2, 1.5, 1]))
    assert volumes["volume_mm3"].tolist() == pytest.approx([6.0, 3.0, 3.0])


def test_frequency_counts_scans_in_world_coordinates():
    lesions, brain = np.zeros((2, 8, 8, 8), bool)
    brain[2:8, 2:8, 2:8] = True
    lesions[2:4, 2, 2] = True
    shift = np.eye(4)
    shift[0, 3] = 2.0
    moved = np.roll(lesions, -2, axis=0), np.roll(brain, -2, axis=0), shift  # the same places in the world
    frequency, everywhere, affine = frequency_map([(lesions, brain, np.eye(4)), moved], grid_mm=2.0)
    assert frequency.sum() == 2
    (cell,) = np.argwhere(frequency == 2)
    centre = affine[:3, :3] @ cell + affine[:3, 3]
    assert np.abs(centre - [2.5, 2, 2]).max() <= 1
    assert everywhere.sum() == everywhere.size == 3**3  # voxels 2 to 7 lie in cells 1 to 3


@pytest.mark.parametrize("shift_mm", [-3000.0, 900.0, 3000.0])
def test_a_scan_that_lies_apart_is_named_before_the_grid_is_made(shift_mm):
    lesions, brain = np.zeros((2, 20, 20, 20), bool)
    brain[2:18, 2:18, 2:18] = True
    shift = np.diag([8.0, 8.0, 8.0, 1.0])
    shift[1, 3] = shift_mm
    scans = [(lesions, brain, np.diag([8.0, 8.0, 8.0, 1.0])), (lesions, brain, shift)]
    with pytest.raises(ValueError, match=r"sub-2 and the scans before it take (1\.0|3\.1) m .* affine"):
        frequency_map(iter(scans), 2.0, ["sub-1", "sub-2"])
    frequency_map(scans[1:], 2.0)  # alone it lies with itself


def test_a_scan_without_lesions_counts_for_the_brain_alone():
    brain = np.ones((4, 4, 4), bool)
    frequency, everywhere, _ = frequency_map([(~brain, brain, np.eye(4))], grid_mm=2.0)
    assert frequency.sum() == 0
    assert everywhere.all()


GRID = np.indices((64, 64, 64))
ORIGIN = np.array([30.0, -40.0, 20.0])  # of a volume in white matter, off the ventricles


def affine(origin=ORIGIN, spacing_mm=1.0):
    found = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    found[:3, 3] = origin
    return found


def ball(centre, radius):
    return np.linalg.norm(GRID - np.reshape(centre, (3, 1, 1, 1)), axis=0) <= radius


def test_template_distances_are_known_at_landmarks():
    landmarks = np.array([[-10, -20, 25], [10, -20, 25], [38, -10, 45], [25, -30, 25]])
    (left, right, far, middle), cortex = template_distances(landmarks)
    assert max(left, right) < 3  # bodies of the lateral ventricles
    assert far > 20
    assert 3 < middle < 20
    assert cortex[3] > 5  # deep white matter


def test_places_follow_their_rules():
    spots = {
        (0, -55, -45): "infratentorial",
        (0, -25, -30): "infratentorial",
        (-10, -20, 25): "periventricular",
        (26, -30, 28): "deep",
        (45, -10, 45): "juxtacortical",
    }
    lesions, origin = np.zeros((120, 120, 120), bool), np.array([-60, -80, -60])
    for place in spots:
        x, y, z = np.subtract(place, origin)
        lesions[x - 1 : x + 2, y - 1 : y + 2, z - 1 : z + 2] = True
    lesions[0, 0, 0] = True  # 1 mm3: counts for the load alone
    scan, table = measure_scan(lesions, affine(origin))
    assert sorted(table["place"]) == sorted(spots.values())
    assert table["volume_mm3"].tolist() == [27.0] * 5
    assert scan["load_ml"] == pytest.approx(136 / 1000)
    assert scan["count_infratentorial"] == pytest.approx(0.4)
    assert sum(scan[f"volume_{place}"] for place in PLACES) == pytest.approx(1)


def test_distance_from_the_ventricles_is_that_of_the_nearest_voxel():
    lesions = np.zeros((20, 1, 1), bool)
    lesions[5:10] = True
    _, table = measure_scan(lesions, affine((20, -20, 25)))
    voxels = np.array([[20 + i, -20, 25] for i in range(5, 10)])
    assert table["ventricle_mm"].tolist() == pytest.approx([template_distances(voxels)[0].min()])


@pytest.mark.parametrize("spacing_mm", [1.0, 2.0])
def test_contrast_and_profile_are_those_of_a_ball_of_known_contrast(spacing_mm):
    lesions = ball((32, 32, 32), 5) | ball((32, 32, 45), 3)
    image = np.stack([np.where(ball((32, 32, 32), 5), 1.4, 1.0), np.where(lesions, 0.8, 1.0)]) * 500
    image[:, 48:] = 3000  # far off: not in the surroundings
    white = ~lesions & (GRID[0] < 48)
    table = measure_contrasts(image, lesions, white, (spacing_mm,) * 3)
    assert table["flair"].tolist() == pytest.approx([1.4, 1.0])
    assert table["t1w"].tolist() == pytest.approx([0.8, 0.8])
    profile = border_profile(table[:1])
    inside = profile["distance_mm"] < 0
    reached = profile["lesions"] > 0
    assert reached[[3, 4]].all() if spacing_mm == 1 else reached[[2, 5]].all()
    assert profile["flair"][inside & reached].tolist() == pytest.approx([1.4] * (inside & reached).sum())
    assert profile["flair"][~inside & reached].tolist() == pytest.approx([1.0] * (~inside & reached).sum())
    assert profile["t1w"][inside & reached].tolist() == pytest.approx([0.8] * (inside & reached).sum())
    assert profile["t1w"][~inside & reached].tolist() == pytest.approx([1.0] * (~inside & reached).sum())


def test_a_lesion_without_white_matter_near_it_has_no_contrast():
    lesions = ball((32, 32, 32), 3)
    table = measure_contrasts(np.ones((2, 64, 64, 64)), lesions, GRID[0] > 50, (1, 1, 1))
    assert table[["flair", "t1w"]].isna().all(axis=None)


def test_noise_is_the_sd_along_each_axis():
    image = 400 + 20 * np.random.default_rng(0).normal(size=(64, 64, 64))
    white = ball((32, 32, 32), 25)
    image[~white] = 0
    assert white_matter_noise(image, white) == pytest.approx([0.05] * 3, rel=0.02)
    thick = 400 + 20 * np.repeat(np.random.default_rng(0).normal(size=(64, 64, 16)), 4, axis=2)
    assert white_matter_noise(thick, white)[2] < 0.02
    slope = 400.0 + GRID[2]  # a bias field is not noise
    assert white_matter_noise(slope, white) == pytest.approx([0] * 3, abs=1e-9)
    assert np.isnan(white_matter_noise(image, white & False)).all()


def test_share_of_lesion_among_bright_voxels_near_one():
    lesions, bright = ball((32, 32, 32), 4), ball((40, 32, 32), 3)  # the second is no lesion, and not all of it is near
    white = ~(lesions | bright)
    flair = 400 * np.where(lesions | bright, 1.5, 1.0)
    near = ndimage.distance_transform_edt(~lesions) <= 5
    expected = lesions.sum() / (lesions | bright & near).sum()
    assert 0.5 < expected < 0.9
    assert bright_lesion(flair, white | True, lesions, white, (1, 1, 1)) == pytest.approx(expected)
    assert np.isnan(bright_lesion(flair, white | True, lesions & False, white, (1, 1, 1)))
    assert np.isnan(bright_lesion(flair / flair, white | True, lesions, white, (1, 1, 1)))


def phantom(rng, shape, lesions):
    """White matter 1, grey 0.75 and fluid 0.2 in nested balls, with noise of 2 %; lesions of known contrast."""
    middle = (np.array(shape) - 1) / 2
    radius = np.linalg.norm((np.indices(shape) - middle.reshape(3, 1, 1, 1)) / middle.reshape(3, 1, 1, 1), axis=0)
    t1w = np.select([radius < 0.2, radius < 0.75, radius < 0.9], [0.2, 1.0, 0.75], 0.2)
    flair = np.select([radius < 0.2, radius < 0.75, radius < 0.9], [0.3, 1.0, 1.15], 0.3)
    image = np.stack([np.where(lesions, 1.3, flair), np.where(lesions, 0.85, t1w)])
    brain = radius < 0.97
    return (image + 0.02 * rng.normal(size=image.shape)) * brain * 1000, brain


def test_a_scan_is_described_from_its_images():
    lesions = ball((32, 32, 48), 3) | ball((48, 32, 32), 2) | ball((20, 20, 32), 3)
    image, brain = phantom(np.random.default_rng(0), (64, 64, 64), lesions)
    scan, table = measure_scan(lesions, affine(), image, brain)
    assert len(table) == scan["lesions"] == 3
    assert scan["flair_mean"] == pytest.approx(1.3, abs=0.02)
    assert scan["t1w_mean"] == pytest.approx(0.85, abs=0.02)
    assert scan["t1w_to_flair"] == pytest.approx(0.5, abs=0.05)
    expected = 0.3 * 1000 / image[0][brain].std()  # all three lie in white matter, far from all else
    assert table["local_contrast"].tolist() == pytest.approx([expected] * 3, rel=0.1)
    assert scan["flair_noise_xy"] == pytest.approx(scan["flair_noise_z"], rel=0.1)
    assert scan["t1w_noise_xy"] == pytest.approx(0.02, rel=0.1)


def test_small_and_healthy_scans_are_measured():
    lesions = np.zeros((14, 16, 12), bool)
    image, brain = phantom(np.random.default_rng(0), lesions.shape, lesions)
    scan, table = measure_scan(lesions, affine(spacing_mm=4.0), image, brain)
    assert len(table) == scan["lesions"] == scan["load_ml"] == 0
    assert np.isnan([scan["flair_mean"], scan["count_deep"], scan["t1w_to_flair"]]).all()
    assert np.isfinite(scan["t1w_noise_xy"])
    lesions[7, 8, 3] = True
    scan, table = measure_scan(lesions, affine(spacing_mm=4.0), image, brain)
    assert table["volume_mm3"].tolist() == [64.0]


def test_nearest_takes_no_value_twice():
    assert nearest_positions([1.0, 5.0, 9.0], [4.9, 5.1, 100.0]) == [1, 2, 0]


def test_images_of_some_scans_and_masks_of_all_are_measured(tmp_path):
    made = {"n_subjects": 3, "n_two_sessions": 0, "seed": 2, "spacing_mm": 4.0, "workers": 1}
    make_cohort(tmp_path, **made)
    scans, lesions = measure_cohort(find_scans(tmp_path), n_imaged=2)
    assert scans["flair_noise_xy"].notna().tolist() == [True, False, True]
    assert scans["lesions"].tolist() == lesions.groupby("scan").size().tolist()
    assert lesions.loc[lesions["scan"] == "sub-002", "flair"].isna().all()
    assert lesions.loc[lesions["scan"] != "sub-002", "flair"].notna().any()


def test_contrast_of_a_real_scan(real_scans):
    """Numbers that were measured on this patient apart from these functions: lesions 1.2 to 1.4 times white matter."""
    (folder,) = (real_scans / "open_ms_data" / "cross_sectional" / "MNI").glob("patient07")
    files = {
        name: next(folder.glob(f"{start}_*"))
        for name, start in (("flair", "FLAIR"), ("t1w", "T1"), ("lesions", "GOLD"))
    }
    found = load_scan({"scan": "sub-07", **files}, normalised=False)
    scan, table = measure_scan(found.lesions, found.affine, found.image, found.brain)
    assert 1.2 < scan["flair_mean"] < 1.4
    assert 0.8 < scan["t1w_mean"] < 0.95
    assert scan["contrast_r"] < -0.3
    edge = border_profile(table).set_index("distance_mm")["flair"]
    assert edge[-1.5] > edge[-0.5] > edge[0.5] > 1.02 > abs(edge[3.5])
