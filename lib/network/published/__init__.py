"""Networks of other tools as they are published, by name, and the adapter that makes one contract of all."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "adapter": ["Adapter", "OUTPUTS", "adapted", "scan_channels"],
        "lst_ai": ["LstUNet"],
        "named": ["load_published"],
        "normalisation": ["NORMALISATION", "RANGE", "own_image", "own_levels"],
        "tiles": ["predict_centre", "predict_tiles"],
    },
)
