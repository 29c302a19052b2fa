"""Which predicted lesions are true and which false, by their saliency maps and by what is known without (notebook 9)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "classifier": ["COEFFICIENTS", "DETECTION", "MODELS", "judge_predictors", "reason_not_to_judge"],
        "features": [
            "OTHERS",
            "bin_widths",
            "describe_places",
            "draw_lesions",
            "lesion_values",
            "predictors_of",
            "saliency_features",
        ],
    },
)
