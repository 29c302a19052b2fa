"""The page of a prepared scan."""

import pytest
from heads import blobs
from matplotlib.colors import to_hex

from lib.figures import SEQUENCE_COLOURS
from lib.prepare import plot_prepared
from lib.prepare.page import KEYS
from lib.prepare.volumes import from_array


@pytest.mark.parametrize(("reference", "moved"), [("FLAIR", "T1w"), ("T1w", "FLAIR")])
def test_a_sequence_has_its_colour_whichever_is_the_reference(reference, moved):
    array, affine = blobs()
    image, brain = from_array(array, affine), from_array(array > 0.4, affine)
    record = {"Numbers": dict.fromkeys(KEYS, 1.0), "Problems": [], "Reference": reference}
    record |= {"BrainMask": "given", "BiasCorrection": "N4"}
    found = {"images": {reference: image, moved: image}, "before": image, "moved": moved, "brain": brain}
    fig = plot_prepared("sub-1", found | {"template": {"brain": brain}, "record": record})
    (legend,) = [ax.get_legend() for ax in fig.axes if ax.get_legend()]
    colours = {
        text.get_text(): to_hex(line.get_edgecolor())
        for text, line in zip(legend.texts, legend.get_patches(), strict=True)
    }
    assert colours == {"FLAIR": SEQUENCE_COLOURS["FLAIR"], "T1w": SEQUENCE_COLOURS["MPRAGE"]}
