"""Lesion instances, their agreement with the annotation, and healthy tissue (notebook 3)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "evaluation": [
            "best_threshold",
            "count_instances",
            "detection_by_volume",
            "metrics_table",
            "threshold_curve",
            "threshold_scores",
        ],
        "instances": [
            "STRUCTURE",
            "annotated_table",
            "bounding_box",
            "detected_lesions",
            "instance_mask",
            "label_instances",
            "largest_instance",
            "lesion_table",
            "segment",
            "select_lesions",
            "signed_distance",
            "voxel_mm3",
            "voxel_sides",
            "widened",
        ],
        "metrics": ["dice", "lesion_rates", "normalised_dice", "scan_metrics"],
        "patch": ["cut_labels", "cut_patch", "patch_around"],
        "places": [
            "PLACES",
            "VOXELS",
            "brain_depth",
            "cortex",
            "depth",
            "distance_to",
            "lesion_places",
            "place_distances",
            "place_names",
            "ventricles",
        ],
        "tissue": ["healthy_volumes", "white_and_grey_matter", "white_matter"],
    },
)
