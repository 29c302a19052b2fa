"""Runs of the notebooks: parameters, paths, execution, sweeps, report, workers."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "paths": ["Run", "save_figure", "save_table"],
        "runner": ["peak_memory_gib"],
        "settings": ["SHIPPED_WEIGHTS", "Settings"],
        "workers": ["compute_each", "group_by_scan"],
    },
)
