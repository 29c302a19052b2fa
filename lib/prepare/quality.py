"""Numbers by which a prepared scan is judged, with their limits."""

import numpy as np
import SimpleITK as sitk

from lib.lesions import dice
from lib.prepare.registration import mutual_information
from lib.prepare.volumes import to_array

LEAST_BITS = 0.15  # of mutual information of FLAIR and T1w in the brain
LEAST_OVERLAP = 0.75  # Dice of the brain with the fitted template
LEAST_IN_FIELD = 0.5  # share of the template's brain in the image
BRAIN_ML = 600, 2100  # with the fluid around it, scaled up to a whole brain
FLUID = 0.9  # FLAIR of fluid over that of brain: 0.2 to 0.7; in T2w 1.5 and more


def scan_numbers(images, unregistered, brain, template):
    """Numbers of a prepared scan. images: {"FLAIR", "T1w"} on one grid; unregistered: the moved image by its header alone.

    `white_over_grey_*`: medians in the white over those in the grey matter of the fitted template. `fluid_flair`: FLAIR in
    the darkest tenth of the T1w well inside the brain, over the median of the brain.
    """
    (moved, before), inside = unregistered, to_array(brain) > 0
    other = {"FLAIR": "T1w", "T1w": "FLAIR"}[moved]
    values = {name: to_array(image) for name, image in images.items()}
    white, grey = ((to_array(template[name]) > 80) & inside for name in ("white", "grey"))
    ratios = {f"white_over_grey_{name.lower()}": _over(image[white], image[grey]) for name, image in values.items()}
    inner = to_array(sitk.BinaryErode(brain, [round(10 / side) for side in brain.GetSpacing()])) > 0
    fluid = inner & (values["T1w"] <= np.percentile(values["T1w"][inner], 3)) if inner.any() else inner
    voxel_ml = float(np.prod(brain.GetSpacing())) / 1000
    return {
        "mi_before_bits": mutual_information(before, images[other], brain),
        "mi_after_bits": mutual_information(images[moved], images[other], brain),
        "overlap_template": float(dice(inside, to_array(template["brain"]) > 0)),
        "in_field": template["in_field"],
        "brain_ml": float(inside.sum() * voxel_ml),
        **ratios,
        "fluid_flair": _over(values["FLAIR"][fluid], values["FLAIR"][inner]),
    }


def _over(first, second):
    return float(np.median(first) / np.median(second)) if first.size and second.size and np.median(second) else np.nan


def scan_problems(numbers):
    """What is wrong with a scan of these numbers, as a list of sentences with their limits."""
    of = numbers
    whole_ml = of["brain_ml"] / max(of["in_field"], 1e-3)
    flair, t1w = of["white_over_grey_flair"], of["white_over_grey_t1w"]
    checks = [
        (of["mi_after_bits"] < LEAST_BITS, f"FLAIR and T1w share {of['mi_after_bits']:.2f} bits, less than {LEAST_BITS}: are they registered, and of one patient?"),
        (of["overlap_template"] < LEAST_OVERLAP, f"the brain mask and the fitted template overlap by {of['overlap_template']:.2f}, less than {LEAST_OVERLAP}: look at its outline"),
        (of["in_field"] < LEAST_IN_FIELD, f"{of['in_field']:.0%} of the template's brain lies in the image, less than {LEAST_IN_FIELD:.0%}"),
        (not BRAIN_ML[0] <= whole_ml <= BRAIN_ML[1], f"the brain would have {whole_ml:.0f} ml as a whole, not {BRAIN_ML[0]} to {BRAIN_ML[1]}"),
        (flair > t1w, f"white over grey matter is {flair:.2f} in the FLAIR and {t1w:.2f} in the T1w: are the two swapped?"),
        (of["fluid_flair"] > FLUID, f"fluid is {of['fluid_flair']:.2f} times as bright as brain in the FLAIR, more than {FLUID}: is it a T2w?"),
    ]  # fmt: skip
    return [text for wrong, text in checks if wrong]
