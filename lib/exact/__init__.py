"""Exact windows of a scan, and gradients computed on the parts of the grid where they are not zero."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "adjoint": ["AdjointGradients", "checked_steps", "unsupported_reason"],
        "contract": ["TOLERANCE", "accepted_probe", "check_network", "of_each", "usable"],
        "graph": ["copied", "frozen", "like_model", "n_channels"],
        "held": ["NormalisedGradients", "WholeGradients"],
        "receptive_field": ["receptive_field"],
        "windows": [
            "at_voxels",
            "find_window",
            "lesion_voxels",
            "pad_far",
            "predict_lesion",
            "predict_lesions",
            "whole_logits",
        ],
    },
)
