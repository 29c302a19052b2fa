"""Raw FLAIR and T1w made ready: bias, registration, 1 mm, brain mask, pages to check them by, and maps back on the raw FLAIR."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "back": ["save_on_raw"],
        "page": ["plot_prepared"],
        "quality": ["scan_problems", "scan_numbers"],
        "raw": ["raw_scans"],
        "scan": ["prepare_scan"],
        "work": ["prepare_all"],
    },
)
