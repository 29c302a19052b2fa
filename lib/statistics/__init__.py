"""Intervals over patients, tests, matched pairs, and the ledger of the paper's claims."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "documents": ["counted", "lesions_and_patients"],
        "comparisons": ["bootstrap_cliffs_delta", "clustered_tests"],
        "correlation": ["bland_altman", "bootstrap_spearman"],
        "intervals": [
            "bootstrap_mean",
            "bootstrap_patients",
            "draw_patients",
            "percentile_interval",
            "proportion_interval",
            "resampled_means",
        ],
        "kinds": ["KINDS", "compare_kinds", "kinds_of", "mean_by_kind", "order_kinds"],
        "matching": ["matched_differences"],
        "networks": ["over_networks"],
        "psychometric": ["check_levels", "detection_curve", "psychometric_table"],
    },
)
