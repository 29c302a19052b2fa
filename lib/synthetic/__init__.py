"""Lesions inserted, removed, moved and exchanged, and the network's response to them (notebook 5)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "changes": ["move_lesion", "remove_lesion", "swap_sequences"],
        "effects": ["effects_table"],
        "insertion": ["insert_lesion"],
        "invented": ["invented_table"],
        "places": ["RISE", "recall_by_place", "rising_contrasts"],
        "response": ["CONDITION", "response_table"],
        "sites": ["DEEP"],
        "work": [
            "NO_CHANGES",
            "NO_COUNTS",
            "change_lesions",
            "explain_insertions",
            "find_sites",
            "predict_changes",
            "predict_insertions",
            "predict_twice",
        ],
    },
)
