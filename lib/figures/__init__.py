"""One look, and one function a figure."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "cohort": ["plot_cohort_contrasts", "plot_cohort_distributions", "plot_cohort_slices"],
        "context": ["plot_context", "plot_fields", "plot_fills", "plot_radii"],
        "evaluation": ["plot_detection", "plot_split", "plot_training"],
        "methods": ["draw_share_bars", "plot_convergence", "plot_methods", "plot_shares"],
        "panels": [
            "OUTLINE_COLOURS",
            "draw_map",
            "draw_outline",
            "draw_plane",
            "draw_surroundings",
            "draw_whole_slice",
            "largest_slice",
            "mark_sides",
            "plot_examples",
            "plot_saliency_maps",
            "plot_synthetic_panels",
            "write_on",
        ],
        "psychometric": ["plot_psychometric"],
        "response": ["plot_changes", "plot_places", "plot_response"],
        "saliency": ["METHOD_LABELS", "method_unit", "plot_orders", "plot_peaks", "plot_profiles", "plot_proxy"],
        "sanity": ["nothing_judged", "plot_errors", "plot_leakage", "plot_sanity"],
        "style": [
            "DOUBLE_COLUMN_MM",
            "KIND_COLOURS",
            "MAP_UNIT",
            "SEQUENCE_COLOURS",
            "SINGLE_COLUMN_MM",
            "STYLE",
            "label_axis",
            "label_panels",
            "map_scale",
            "needs_annotation",
            "new_figure",
            "styled",
        ],
        "sweep": ["SIDES", "check_plot", "plot_side_by_side", "plot_sweep", "sweep_numbers"],
    },
)
