"""The explainers of one lesion, and what is measured on their maps (notebooks 4 and 8)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "attribution": ["LesionScore"],
        "cam": ["grad_cam", "hires_cam", "layer_activations"],
        "comparison": ["compare_methods", "correlate_methods", "measure_concentration"],
        "convergence": ["smoothgrad_until", "standard_errors"],
        "gradients": ["copy_maps", "noise_sigma", "noisy_copies", "smoothgrad", "smoothgrads"],
        "maps": [
            "lesion_generator",
            "lesion_maps",
            "map_name",
            "noise_generator",
            "numpy_generator",
            "peak_saliency",
            "saved_maps",
            "scan_maps",
            "seconds_a_voxel",
        ],
        "measures": ["PERILESIONAL_MM", "channels", "measure_maps", "reach_mm"],
        "profiles": ["mean_profile", "rings"],
        "scores": ["SCORES", "class_logit"],
        "work": ["NO_MAPS", "compare_lesion", "converge", "explain_instances", "find_instances"],
    },
)
