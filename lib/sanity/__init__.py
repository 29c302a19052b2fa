"""Checks of the maps: are they faithful, stable, and more than the lesion's mask (notebook 7)?"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "checks": [
            "LESION",
            "add_means",
            "curve_areas",
            "explain_lesion",
            "explained_by_mask",
            "infidelity",
            "perturbation_curves",
            "stability",
        ],
        "leakage": ["leakage"],
        "randomisation": ["weight_randomisation"],
        "relabelling": ["compare_networks", "mirror_masks", "train_control"],
        "work": ["compare_labels", "draw_weights", "explain_case", "leak", "measure_infidelity", "perturb"],
    },
)
