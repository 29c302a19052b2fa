"""The synthetic cohort of notebook 0: drawn, written as BIDS, and described beside reference numbers of real scans."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "appearance": ["INGREDIENTS", "draw_appearance", "render_patch"],
        "description": [
            "PLACES",
            "border_profile",
            "frequency_map",
            "instance_volumes",
            "measure_cohort",
            "nearest_positions",
        ],
        "painting": ["visible"],
        "phantom": ["make_cohort", "maps_file"],
        "reference": ["OF_LESIONS", "QUANTILES", "load_reference", "reference_distances"],
        "subject": ["Subject", "crop"],
    },
)
