"""Anatomical figures: orientation, place in mm, contours by kind, and one scale for what is compared."""

import numpy as np
import pytest
from drawn import assert_fits_the_double_column, assert_says_the_unit
from matplotlib.colors import to_hex

from lib.figures.panels import OUTLINE_COLOURS, plot_examples, plot_saliency_maps, plot_synthetic_panels
from lib.figures.style import KIND_COLOURS
from lib.lesions.instances import label_instances

SHAPE = (40, 48, 20)


def ball(centre, radius):
    grid = np.indices(SHAPE) - np.reshape(centre, (3, 1, 1, 1))
    return (grid**2).sum(axis=0) <= radius**2


def image():
    rng = np.random.default_rng(0)
    return rng.normal(size=(2, *SHAPE)).astype(np.float32) * ball((20, 24, 10), 18)


def example():
    annotation = label_instances(ball((14, 20, 10), 2) | ball((28, 30, 10), 2))
    prediction = label_instances(ball((15, 20, 10), 2) | ball((22, 36, 10), 2))
    facts = {"image": image(), "annotation": annotation, "prediction": prediction}
    return facts | {"centre": (14, 20, 10), "spacing_mm": (1.0, 1.0, 1.0), "title": "sub-001"}


def explained(kind, level, cam=True, spacing=(1.0, 1.0, 1.0)):
    saliency = np.zeros((2, *SHAPE), np.float32)
    saliency[:, 20, 24, 10] = level, -level / 2
    facts = {"kind": kind, "label": "sub-001", "image": image(), "saliency": saliency, "lesion": ball((20, 24, 10), 2)}
    return facts | {"cam": np.abs(saliency[0]) if cam else None, "spacing_mm": spacing}


def inserted(n):
    facts = {"image": image(), "mask": ball((20, 24, 10), 2), "spacing_mm": (1.0, 1.0, 1.0)}
    return [facts | {"score": i / 10, "title": f"case {i}"} for i in range(n)]


def overlays(fig):
    """The saliency images by row: those drawn over the anatomy."""
    return [ax.images[1] for ax in fig.axes if len(ax.images) == 2]


def contours(ax):
    """Middle of the contours (mm) by colour."""
    found = {}
    for drawn in ax.collections:
        vertices = np.concatenate([path.vertices for path in drawn.get_paths()])
        found[to_hex(drawn.get_edgecolor()[0])] = (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    return found


@pytest.fixture(scope="module")
def maps():
    return plot_saliency_maps([explained("TP", 4.0), explained("FN", -1.0)])


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plot_examples([example()]),
        lambda: plot_saliency_maps([explained("TP", 4.0)]),
        lambda: plot_synthetic_panels(inserted(3)),
    ],
    ids=["examples", "saliency_maps", "synthetic_panels"],
)
def test_fits_the_double_column_with_legible_type(draw):
    fig = draw()
    assert_fits_the_double_column(fig)
    texts = [text for ax in fig.axes for text in ax.texts]
    assert {"L", "R", "10 mm"} <= {text.get_text() for text in texts}


def test_examples_show_the_patients_left_on_the_left():
    case = example()
    case["image"] = np.where(np.indices(SHAPE)[0] < 20, 1.0, 2.0)[None].repeat(2, 0).astype(np.float32)
    ax = plot_examples([case]).axes[0]
    drawn, (left, right, *_) = ax.images[0].get_array(), ax.images[0].get_extent()
    assert left < right and ax.get_xlim()[0] < ax.get_xlim()[1] and ax.images[0].origin == "lower"
    assert drawn[24, 5] == 1 and drawn[24, 35] == 2  # x grows to the right in RAS: low x is left
    sides = {text.get_text(): text.get_position()[0] for text in ax.texts}
    assert sides["L"] < 0.5 < sides["R"]


def test_examples_colour_contours_by_kind():
    _, _, whole, zoom = plot_examples([example()]).axes
    for ax in (whole, zoom):
        found = contours(ax)
        assert found[KIND_COLOURS["TP"]] == pytest.approx((15, 20))
        assert found[KIND_COLOURS["FP"]] == pytest.approx((22, 36))
        assert found[KIND_COLOURS["FN"]] == pytest.approx((28, 30))
        assert found["#ffffff"] == pytest.approx((21, 25))  # both annotated lesions


def test_examples_without_annotation_show_what_is_predicted_alone():
    fig = plot_examples([example() | {"annotation": None}])
    found = contours(fig.axes[2])
    assert list(found) == [OUTLINE_COLOURS["predicted"]]
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["predicted"]


def test_enlarged_part_is_60_mm_about_the_voxel_whatever_the_spacing():
    case = example() | {"spacing_mm": (0.5, 2.0, 3.0)}
    zoom = plot_examples([case]).axes[3]
    assert zoom.get_xlim() == (7 - 30, 7 + 30)
    assert zoom.get_ylim() == (40 - 30, 40 + 30)


def test_saliency_scale_is_symmetric_and_shared_by_rows_and_sequences(maps):
    flair_tp, mprage_tp, cam_tp, flair_fn, mprage_fn, cam_fn = overlays(maps)
    for drawn in (flair_tp, mprage_tp, flair_fn, mprage_fn):
        assert drawn.get_clim() == (-4, 4)
    assert cam_tp.get_clim() == cam_fn.get_clim() == (0, 4)


def test_saliency_maps_draw_the_slice_of_the_lesion(maps):
    flair, mprage, *_ = overlays(maps)
    assert flair.get_array()[24, 20] == 4 and mprage.get_array()[24, 20] == -2
    assert np.count_nonzero(flair.get_array()) == 1


def test_saliency_is_transparent_at_zero_and_opaque_at_its_limits(maps):
    drawn = overlays(maps)[0]
    alpha = drawn.cmap(drawn.norm([-4.0, 0.0, 4.0]))[:, 3]
    assert alpha == pytest.approx([1, 0, 1], abs=0.01)


def test_saliency_bars_carry_units_and_say_that_rows_share_them(maps):
    labels = [ax.get_xlabel() for ax in maps.axes if ax.get_xlabel()]
    assert labels[0] == "SmoothGrad saliency (logit per z-score), one scale for all rows"
    assert "a.u." in labels[1]


def test_limit_ignores_what_the_field_does_not_show():
    case = explained("TP", 2.0, spacing=(3.0, 3.0, 3.0))
    case["saliency"][0, 0, 0, 10] = 50.0
    assert overlays(plot_saliency_maps([case]))[0].get_clim() == (-2, 2)


def test_limit_of_maps_that_the_fields_do_not_show_is_their_largest_value():
    case = explained("TP", 2.0)
    case["cam"] = np.zeros_like(case["cam"])
    case["cam"][0, 0, 0] = 3e-5
    assert overlays(plot_saliency_maps([case]))[2].get_clim() == pytest.approx((0, 3e-5))


def test_peaks_are_written_in_the_unit_of_their_bar():
    case = explained("TP", 2.0)
    case["cam"] = 3.8e-5 * (case["cam"] > 0)
    fig = plot_saliency_maps([case])
    assert fig.axes[4].texts[0].get_text() == "peak +3.80"
    assert "10^{-5}" in fig.axes[-1].get_xlabel()


def test_saliency_maps_without_grad_cam_leave_its_column_out():
    fig = plot_saliency_maps([explained("TP", 1.0, cam=False), explained("TN", 0.1, cam=False)])
    assert "Grad-CAM++" not in {ax.get_title() for ax in fig.axes}
    assert len(overlays(fig)) == 4


def test_saliency_maps_say_where_grad_cam_was_not_computed():
    fig = plot_saliency_maps([explained("TP", 1.0), explained("TN", 0.1, cam=False)])
    assert "not computed" in [text.get_text() for text in fig.axes[9].texts]


@pytest.mark.parametrize(("sequence", "channel"), [("FLAIR", 0), ("MPRAGE", 1)])
def test_grad_cam_is_drawn_over_a_sequence_that_the_network_takes(sequence, channel):
    case = explained("TP", 2.0)
    below, drawn = plot_saliency_maps([case], sequence=sequence).axes[4].images
    np.testing.assert_array_equal(below.get_array().filled(0), case["image"][channel, :, :, 10].T)
    np.testing.assert_array_equal(drawn.get_array(), case["cam"][:, :, 10].T)


def test_saliency_of_zero_everywhere_is_drawn():
    assert overlays(plot_saliency_maps([explained("TN", 0.0)]))[0].get_clim()[1] > 0


def test_an_empty_lesion_is_named():
    case = explained("TP", 1.0) | {"lesion": np.zeros(SHAPE, bool), "label": "sub-009"}
    with pytest.raises(ValueError, match="sub-009"):
        plot_saliency_maps([case])


def test_synthetic_panels_state_scores_and_fill_bands_evenly():
    fig = plot_synthetic_panels(inserted(8))
    titles = [ax.get_title() for ax in fig.axes if ax.get_title()]
    assert titles == [f"case {i}\nscore {i / 10:.2f}" for i in range(8)]
    assert len(fig.axes) == 16 and all(ax.images for ax in fig.axes)
    assert contours(fig.axes[0])[KIND_COLOURS["FP"]] == pytest.approx((20, 24))


def test_the_scale_of_maps_has_the_unit_of_the_network():
    unit = "log-odds per range"
    assert_says_the_unit(plot_saliency_maps([explained("TP", 4.0)], unit), f"({unit})")
