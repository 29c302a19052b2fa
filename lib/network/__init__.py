"""Networks and their weights, training and prediction (notebooks 2 and 3)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "architectures": ["build_network", "named_layer"],
        "distributed": ["build_batches", "fit", "starting_network"],
        "inference": ["blended_lesion", "lesion_patches", "patch_slices", "predict"],
        "loaded": ["loaded_network", "loaded_scan", "own_scan"],
        "published": ["NORMALISATION", "LstUNet", "scan_channels"],
        "patches": ["PatchBatches", "ScanPatches", "SubjectPatches"],
        "training": ["train_network"],
        "weights": [
            "explained_unit",
            "load_weights",
            "map_unit",
            "prediction_settings",
            "record_thresholds",
            "recorded_outline",
            "recorded_threshold",
            "save_weights",
            "seen_sequences",
        ],
        "work": ["evaluate_scan", "predict_scan", "scan_scores"],
    },
)
