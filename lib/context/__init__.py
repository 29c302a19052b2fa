"""How much of the tissue around a lesion the network needs (notebook 6)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "fills": ["check_names"],
        "plateau": ["lesion_plateaus", "overall_plateaus"],
        "response": ["context_response", "mean_response"],
        "selection": ["spread_over_detection"],
        "work": ["NO_PLACES", "NO_RESPONSES", "hide_surroundings", "measure_places"],
    },
)
