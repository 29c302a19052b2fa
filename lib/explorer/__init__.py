"""The panel of notebook 00_explore."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"panel": ["Explorer"]})
