"""Texts of the panel of notebook 00_explore: the rows of its lesion table, what lies at a voxel, the numbers of a map."""

from nibabel.affines import apply_affine

from lib.figures import method_unit
from lib.saliency import PERILESIONAL_MM
from lib.scans import SEQUENCES
from lib.statistics import kinds_of

HEADER = "kind       label     mm³  prob.      x     y     z mm"
ROW = "{kind:<9} {label:>6} {volume_mm3:>7.0f} {mean_probability:>6.2f} {centroid_x_mm:>6.0f} {centroid_y_mm:>5.0f} {centroid_z_mm:>5.0f}"
AROUND = f"mean up to {PERILESIONAL_MM:g} mm around"
NUMBERS = {"peak": "peak", "mean_inside": "mean inside", "mean_perilesional": AROUND}


def lesion_options(lesions):
    """Rows of a lesion table as (text, index): by kind, each from large to small, in columns below HEADER."""
    order = lesions.assign(order=lesions["kind"].map(kinds_of(lesions).index))
    order = order.sort_values(["order", "volume_mm3"], ascending=[True, False])
    texts = [ROW.format(**row).replace(" ", "\N{NO-BREAK SPACE}") for row in order.to_dict("records")]
    return list(zip(texts, order.index, strict=True))


def place_html(opened, explained, voxel):
    """What lies at a voxel (x, y, z) of a `session.Opened`; explained may be None."""
    x, y, z = apply_affine(opened.scan.affine, voxel)
    scores = (f"{name} {opened.volume[(0, channel, *voxel)]:+.2f}" for channel, name in enumerate(SEQUENCES))
    parts = [f"x {x:.0f}, y {y:.0f}, z {z:.0f} mm", f"{', '.join(scores)} {opened.unit.rpartition(' per ')[2]}"]
    parts.append(f"lesion probability {opened.probability[voxel]:.2f}")
    if explained:
        values = ", ".join(f"{name} {values[voxel]:+.2g}" for name, values in explained.maps.items())
        parts.append(f"saliency {values} {_unit(explained)}")
    return _minus(" &nbsp;·&nbsp; ".join(parts))


def numbers_html(explained):
    """HTML table of the numbers of `saliency.measure_maps`: a row a sequence, a column a number."""
    table = explained.numbers.set_index("sequence")[list(NUMBERS)].map("{:+.3g}".format).rename(columns=NUMBERS)
    table = table.rename_axis(index=None, columns=f"saliency ({_unit(explained)})")
    return _minus(table.to_html(border=0, bold_rows=False, justify="center"))


def _unit(explained):
    return method_unit(explained.settings.method, explained.opened.unit)


def _minus(text):
    """Typographic minus signs before numbers."""
    return text.replace(" -", " \N{MINUS SIGN}").replace(">-", ">\N{MINUS SIGN}")
