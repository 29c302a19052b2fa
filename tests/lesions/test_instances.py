"""Lesion instances against hand-made masks, closed forms and literal loops."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
from nibabel.affines import from_matvec
from scipy.spatial.transform import Rotation

from lib.lesions.instances import (
    annotated_table,
    detected_lesions,
    instance_mask,
    label_instances,
    lesion_table,
    segment,
    select_lesions,
    signed_distance,
    voxel_mm3,
    voxel_sides,
)

AFFINE = np.array([[2.0, 0, 0, -10], [0, 1.0, 0, -20], [0, 0, 3.0, -30], [0, 0, 0, 1]])
SPACING = (2.0, 1.0, 3.0)


def blank(shape=(12, 10, 8)):
    return np.zeros(shape, bool)


@pytest.fixture
def scan():
    """A TP of three voxels (one annotated), an FP of one, an FN of two, all apart."""
    probability = np.zeros((12, 10, 8))
    annotation = blank()
    probability[2, 2, 2:5] = 0.6, 0.9, 0.3
    annotation[2, 2, 4:6] = True
    probability[9, 8, 6] = 0.7
    annotation[6, 5:7, 2] = True
    probability[6, 5, 2] = 0.2
    return probability, annotation


@pytest.mark.parametrize(
    ("matrix", "mm3"),
    [
        (np.diag([4.0, 4, 4]), 64),
        (np.diag([-3.0, 3, 3]), 27),
        ([[0, 0, 2.0], [-3, 0, 0], [0, 0.5, 0]], 3),
        ([[1.0, 0.5, 0], [0, 1, 0], [0, 0, 1]], 1),  # sheared: a longer side, the same volume
    ],
)
def test_the_volume_of_a_voxel_is_the_determinant_exactly(matrix, mm3):
    assert voxel_mm3(from_matvec(np.array(matrix))) == mm3


@pytest.mark.parametrize("seed", range(8))
def test_oblique_voxels_of_whole_millimetres_are_such_though_headers_are_in_single_precision(seed):
    turn = Rotation.random(random_state=seed).as_matrix()
    affine = from_matvec((turn * (1, 2, 3)).astype(np.float32).astype(float), [0, 0, 0])
    assert voxel_sides(affine).tolist() == [1, 2, 3]
    assert voxel_mm3(affine) == 6
    mask = blank()
    mask[2:7, 2, 2] = mask[9, 2, 2] = True  # five voxels, and 3 mm from the last of them one
    assert label_instances(mask, smallest_mm3=30, affine=affine).max() == 1
    assert label_instances(mask, merged_mm=3, affine=affine).max() == 1
    assert label_instances(mask, merged_mm=2.99, affine=affine).max() == 2


@pytest.mark.parametrize(("neighbour", "instances"), [((3, 2, 2), 1), ((3, 3, 2), 1), ((3, 3, 3), 2)])
def test_faces_and_edges_connect_but_corners_do_not(neighbour, instances):
    mask = blank()
    mask[2, 2, 2] = mask[neighbour] = True
    assert label_instances(mask).max() == instances


@pytest.mark.parametrize(("neighbours", "reached"), [(6, 1), (18, 2), (26, 3)])
def test_neighbours_are_those_across_so_many_coordinates(neighbours, reached):
    for steps in range(1, 4):
        mask = blank((3, 3, 3))
        mask[1, 1, 1] = mask[(2,) * steps + (1,) * (3 - steps)] = True
        assert label_instances(mask, neighbours).max() == (1 if steps <= reached else 2)


def literally_merged(mask, neighbours, merged_mm, smallest_mm3):
    """Sets of voxels: components joined, pair by pair, while any two have voxels at most merged_mm apart."""
    labels = label_instances(mask, neighbours)
    parts = [np.argwhere(labels == number) for number in range(1, labels.max() + 1)]
    far = lambda a, b: np.linalg.norm((a[:, None] - b) * SPACING, axis=2).min() > merged_mm + 1e-6  # noqa: E731
    while near := [(i, j) for j in range(len(parts)) for i in range(j) if not far(parts[i], parts[j])]:
        i, j = near[0]
        parts[i] = np.concatenate([parts[i], parts.pop(j)])
    return {frozenset(map(tuple, part.tolist())) for part in parts if 6 * len(part) >= smallest_mm3}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("neighbours", "merged_mm", "smallest_mm3"), [(6, 2.0, 0), (18, 3.0, 13), (26, 5.0, 18), (18, 0.5, 7)]
)
def test_merged_and_small_instances_are_those_of_the_literal_search(seed, neighbours, merged_mm, smallest_mm3):
    mask = np.random.default_rng(seed).random((10, 9, 8)) < 0.06
    labels = label_instances(mask, neighbours, merged_mm, smallest_mm3, AFFINE)
    found = {frozenset(map(tuple, np.argwhere(labels == number).tolist())) for number in range(1, labels.max() + 1)}
    assert found == literally_merged(mask, neighbours, merged_mm, smallest_mm3)
    again = label_instances(labels > 0, neighbours, merged_mm, smallest_mm3, AFFINE)
    np.testing.assert_array_equal(again, labels)
    first = [np.flatnonzero(labels == number)[0] for number in range(1, labels.max() + 1)]
    assert labels.dtype == np.int32 and first == sorted(first)


@pytest.mark.parametrize("given", [{"neighbours": 8}, {"merged_mm": -1.0}, {"smallest_mm3": -1.0}])
def test_instances_that_are_none_are_refused(given):
    with pytest.raises(ValueError, match="give 6, 18 or 26, and lengths and volumes of 0 or more"):
        label_instances(blank(), **given)


def test_what_is_too_small_is_neither_found_nor_missed(scan):
    label = partial(label_instances, smallest_mm3=12.0, affine=AFFINE)  # two voxels
    assert lesion_table(*scan, 0.3, AFFINE, None, label)["kind"].tolist() == ["TP", "FN"]


def test_without_annotation_all_that_is_predicted_is_of_one_kind(scan):
    probability, annotation = scan
    bare, whole = (lesion_table(probability, given, 0.3, AFFINE) for given in (None, annotation))
    assert bare["kind"].tolist() == ["predicted"] * 2
    assert bare["overlap"].isna().all()
    rest = [name for name in whole if name not in ("kind", "overlap")]
    pd.testing.assert_frame_equal(bare[rest], whole.loc[whole["kind"] != "FN", rest])
    assert detected_lesions(pd.concat([bare, whole]))["kind"].tolist() == ["predicted"] * 2 + ["TP"]
    (_, second) = bare.itertuples()
    assert np.argwhere(instance_mask(second, label_instances(probability >= 0.3), blank() * 1)).tolist() == [[9, 8, 6]]


def test_kinds_follow_from_one_voxel_of_overlap(scan):
    table = lesion_table(*scan, 0.3, AFFINE)
    assert table["kind"].tolist() == ["TP", "FP", "FN"]
    assert table["overlap"].tolist() == [pytest.approx(1 / 3), 0, 0]


def test_threshold_is_inclusive(scan):
    probability, annotation = scan
    assert lesion_table(probability, annotation, 0.3, AFFINE)["voxels"].tolist() == [3, 1, 2]
    assert lesion_table(probability, annotation, 0.31, AFFINE)["kind"].tolist() == ["FP", "FP", "FN", "FN"]


def test_a_lesion_that_reaches_the_threshold_is_outlined_below_it(scan):
    probability, annotation = scan
    np.testing.assert_array_equal(segment(probability, 0.3), probability >= 0.3)
    outlined = segment(probability, 0.8, 0.3)
    assert np.argwhere(outlined).tolist() == [[2, 2, 2], [2, 2, 3], [2, 2, 4]]  # the FP reaches 0.7 only
    assert not segment(probability, 0.95, 0.1).any()
    assert lesion_table(probability, annotation, 0.8, AFFINE, 0.3)["kind"].tolist() == ["TP", "FN"]
    assert annotated_table(probability, annotation, 0.8, AFFINE, 0.3)["detected"].tolist() == [True, False]
    with pytest.raises(ValueError, match="outline 0.5 is above the threshold 0.4"):
        segment(probability, 0.4, 0.5)


def test_sizes_and_places_are_in_world_units(scan):
    tp, fp, fn = lesion_table(*scan, 0.3, AFFINE).itertuples()
    assert [row.volume_mm3 for row in (tp, fp, fn)] == [18, 6, 12]
    assert (tp.centroid_x_mm, tp.centroid_y_mm, tp.centroid_z_mm) == pytest.approx((-6, -18, -21))
    assert (fn.centroid_x_mm, fn.centroid_y_mm, fn.centroid_z_mm) == pytest.approx((2, -14.5, -24))


def test_probabilities_are_those_of_the_instance(scan):
    table = lesion_table(*scan, 0.3, AFFINE)
    assert table["mean_probability"].tolist() == pytest.approx([0.6, 0.7, 0.1])
    assert table["peak_probability"].tolist() == pytest.approx([0.9, 0.7, 0.2])


def test_nearest_lesion_is_sought_in_the_map_of_the_instance(scan):
    tp, fp, fn = lesion_table(*scan, 0.3, AFFINE)["nearest_lesion_mm"]
    assert tp == fp == pytest.approx(np.sqrt(14**2 + 6**2 + 6**2))  # (2, 2, 4) to (9, 8, 6)
    assert fn == pytest.approx(np.sqrt(8**2 + 3**2 + 6**2))  # (6, 5, 2) to (2, 2, 4), annotated


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("share", [0.005, 0.01, 0.07])
def test_nearest_lesion_equals_the_pairwise_loop(seed, share):
    mask = np.random.default_rng(seed).random((14, 12, 9)) < share
    labels = label_instances(mask)
    table = lesion_table(mask.astype(float), mask, 0.5, AFFINE)
    points = [np.argwhere(labels == label) * SPACING for label in table["label"]]
    assert len(points) > 1
    for i, own in enumerate(points):
        others = np.concatenate(points[:i] + points[i + 1 :])
        nearest = min(np.linalg.norm(others - voxel, axis=1).min() for voxel in own)
        assert table["nearest_lesion_mm"][i] == pytest.approx(nearest)


def test_nearest_lesion_does_not_depend_on_numbering():
    mask = blank()
    mask[1, 0, 0] = mask[3, 0, 0] = True  # the first and the fifth instance
    mask[2, 9, [1, 4, 7]] = True
    nearest = lesion_table(mask * 1.0, mask, 0.5, np.eye(4))["nearest_lesion_mm"]
    assert nearest.tolist() == [2, 3, 3, 3, 2]


def test_lesion_inside_another_is_measured_from_its_hull():
    mask = blank((9, 9, 9))
    mask[1:8, 1:8, 1:8] = True
    mask[2:7, 2:7, 2:7] = False
    mask[4, 4, 4] = True
    assert lesion_table(mask * 1.0, mask, 0.5, np.eye(4))["nearest_lesion_mm"].tolist() == [3, 3]


def test_single_lesion_has_no_nearest_one():
    mask = blank()
    mask[3, 3, 3] = True
    assert lesion_table(mask * 1.0, mask, 0.5, AFFINE)["nearest_lesion_mm"].isna().tolist() == [True]


def test_empty_maps_give_a_table_that_can_be_concatenated(scan):
    empty = lesion_table(np.zeros((12, 10, 8)), blank(), 0.5, AFFINE)
    full = lesion_table(*scan, 0.3, AFFINE)
    assert len(empty) == 0
    pd.testing.assert_frame_equal(pd.concat([empty, full], ignore_index=True), full)


def test_prediction_of_another_shape_is_refused(scan):
    with pytest.raises(ValueError, match=r"\(12, 10, 8\).*\(12, 10, 9\)"):
        lesion_table(scan[0], blank((12, 10, 9)), 0.3, AFFINE)


def test_annotated_table_tells_detected_from_missed(scan):
    table = annotated_table(*scan, 0.3, AFFINE)
    assert table["detected"].tolist() == [True, False]
    assert table["voxels"].tolist() == [2, 2]
    assert table["mean_probability"].tolist() == pytest.approx([0.15, 0.1])


def test_one_prediction_can_detect_two_lesions():
    probability, annotation = np.zeros((12, 10, 8)), blank()
    probability[2:8, 2, 2] = 1
    annotation[[2, 7], 2, 2] = True
    assert lesion_table(probability, annotation, 0.5, AFFINE)["kind"].tolist() == ["TP"]
    assert annotated_table(probability, annotation, 0.5, AFFINE)["detected"].tolist() == [True, True]


def test_instance_mask_finds_the_voxels_of_every_row(scan):
    probability, annotation = scan
    predicted, annotated = label_instances(probability >= 0.3), label_instances(annotation)
    rows = lesion_table(probability, annotation, 0.3, AFFINE).itertuples()
    tp, fp, fn = (np.argwhere(instance_mask(row, predicted, annotated)).tolist() for row in rows)
    assert tp == [[2, 2, 2], [2, 2, 3], [2, 2, 4]]
    assert fp == [[9, 8, 6]]
    assert fn == [[6, 5, 2], [6, 6, 2]]


def test_instance_mask_refuses_labels_of_another_scan(scan):
    row = lesion_table(*scan, 0.3, AFFINE).iloc[1]
    with pytest.raises(ValueError, match="FP label 2"):
        instance_mask(row, label_instances(blank()), label_instances(blank()))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_border_of_a_slab_is_half_way_between_voxel_centres(axis):
    lesion = np.moveaxis(blank((9, 9, 9)), axis, 0)
    lesion[3:6] = True
    expected = SPACING[axis] * np.array([2.5, 1.5, 0.5, -0.5, -1.5, -0.5, 0.5, 1.5, 2.5])
    distance = np.moveaxis(signed_distance(np.moveaxis(lesion, 0, axis), SPACING), axis, 0)
    np.testing.assert_allclose(distance, np.broadcast_to(expected[:, None, None], (9, 9, 9)))


def test_border_in_any_direction_is_half_a_voxel_from_the_centre():
    lesion = blank((7, 7, 7))
    lesion[3, 3, 3] = True
    distance = signed_distance(lesion, SPACING)
    for voxel in np.argwhere(~lesion):
        away = (voxel - 3) * np.array(SPACING)
        length = np.sqrt((away**2).sum())
        half_voxel = np.sqrt(((away / length * SPACING) ** 2).sum()) / 2
        assert distance[tuple(voxel)] == pytest.approx(length - half_voxel)


def test_distance_to_a_ball_is_right_within_half_a_voxel():
    centre = np.linalg.norm(np.indices((41, 41, 41)) - 20, axis=0)
    error = signed_distance(centre <= 10, (1, 1, 1)) - (centre - 10)
    assert np.abs(error).max() < 0.501


@pytest.mark.parametrize("lesion", [np.zeros((3, 3, 3), bool), np.ones((3, 3, 3), bool)])
def test_lesion_without_border_is_refused(lesion):
    with pytest.raises(ValueError, match="of 27 voxels"):
        signed_distance(lesion, (1, 1, 1))


@pytest.fixture
def cohort():
    """Patients a, b and c with 50, 2 and 1 TP, and a with 3 FP; two scans a patient, index not unique."""
    table = pd.DataFrame({"subject": ["a"] * 50 + ["b"] * 2 + ["c"] + ["a"] * 3, "kind": ["TP"] * 53 + ["FP"] * 3})
    table["label"] = np.arange(len(table))
    table["volume_mm3"] = 10.0
    table.index = np.arange(len(table)) % 7
    return table


def select(table, n_per_kind, seed=0, low=5, high=100):
    generator = np.random.default_rng(seed)
    return select_lesions(table, n_per_kind=n_per_kind, min_volume_mm3=low, max_volume_mm3=high, generator=generator)


def test_every_patient_gives_a_lesion_before_any_gives_another(cohort):
    for seed in range(10):
        counts = select(cohort, 6, seed).query("kind == 'TP'")["subject"].value_counts()
        assert counts.to_dict() == {"a": 3, "b": 2, "c": 1}


def test_fewer_lesions_than_asked_are_all_taken(cohort):
    assert select(cohort, 6).query("kind == 'FP'")["label"].tolist() == [53, 54, 55]


def test_seed_decides_which_lesions_and_which_patients(cohort):
    pd.testing.assert_frame_equal(select(cohort, 6, seed=1), select(cohort, 6, seed=1))
    assert len({tuple(select(cohort, 6, seed)["label"]) for seed in range(10)}) > 5
    assert {select(cohort.iloc[:53], 1, seed)["subject"].item() for seed in range(30)} == {"a", "b", "c"}


def test_lower_volume_bound_is_excluded_and_upper_included(cohort):
    cohort["volume_mm3"] = np.arange(len(cohort)) % 4
    assert set(select(cohort, 100, low=1, high=3)["volume_mm3"]) == {2, 3}


@pytest.mark.parametrize("rows", [0, 1])
def test_selecting_from_no_eligible_lesion_gives_none_and_names_the_bounds(rows):
    table = pd.DataFrame({"kind": ["TP"], "subject": ["a"], "volume_mm3": [3.0], "voxels": [3]}).head(rows)
    with pytest.warns(UserWarning, match=rf"none of {rows} lesions is left that has more than 5 and at most 100 mm3"):
        found = select(table, 1, low=5, high=100)
    assert found.columns.equals(table.columns)
    assert found.empty


def test_lesions_of_too_many_voxels_are_named_and_left_out():
    table = pd.DataFrame({"kind": ["FP"] * 3, "subject": list("abc"), "scan": list("xyz"), "label": [1, 12, 3]})
    table = table.assign(volume_mm3=[50.0, 90.0, 2.0], voxels=[5000, 9700, 9800])  # of small voxels
    with pytest.warns(UserWarning, match=r"more than 5,000 voxels \(max_voxels\): y FP 12 \(9,700 voxels\)$"):
        found = select_lesions(
            table,
            n_per_kind=5,
            min_volume_mm3=5,
            max_volume_mm3=100,
            max_voxels=5000,
            generator=np.random.default_rng(0),
        )
    assert found["scan"].tolist() == ["x"]
