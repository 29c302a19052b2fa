"""Scans tables, BIDS folders and public data sets, checked, split and loaded (notebook 1), and maps written as NIfTI."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "bids": ["bids_scans"],
        "checks": ["check_scans"],
        "images": [
            "FILES",
            "SEQUENCES",
            "Scan",
            "load_lesions",
            "load_masks",
            "load_scan",
            "normalise",
            "voxel_grid",
            "with_digests",
        ],
        "maps": ["is_whole", "load_cut", "load_labels", "load_map", "save_cut", "save_map", "write_nifti"],
        "public": ["PUBLIC", "public_scans", "split_source"],
        "table": ["SPLITS", "check_rows", "find_scans", "read_cells", "scan_names", "split_patients"],
    },
)
