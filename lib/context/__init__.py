"""What of a scan the network needs to find a lesion: how much tissue around it (notebook 6), which sequence (8)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "fills": ["FILLS", "check_names", "fill_images", "mean_image"],
        "plateau": ["lesion_plateaus", "overall_plateaus"],
        "response": ["context_response", "mean_response"],
        "selection": ["spread_over_detection"],
        "shares": ["SHARES", "mean_shares", "share_score"],
        "work": ["NO_PLACES", "NO_RESPONSES", "hide_surroundings", "measure_places", "share_lesion"],
    },
)
