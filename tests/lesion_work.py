"""Items of work of notebooks 4 to 6 on a tiny run, for tests that need their functions and no notebook."""

from functools import partial

from lib.context.work import hide_surroundings, measure_places
from lib.network.weights import load_weights, recorded_threshold
from lib.run.workers import group_by_scan
from lib.saliency.work import explain_instances, find_instances
from lib.synthetic.sites import DEEP
from lib.synthetic.work import explain_insertions, find_sites, predict_changes, predict_insertions, predict_twice

SETTINGS = {"n_samples": 2, "noise_fraction": 0.05, "layer": "model.1.submodule.0.conv", "peak_voxels": 2, "seed": 0}
NOISE = {"n_samples": 2, "noise_fraction": 0.05}
CONTRASTS = [0.0, 2.0]
STEPS = [0, 6]
VARIANTS = [("mean", "euclidean"), ("mean", "dilation"), ("air", "euclidean"), ("blurred", "euclidean")]


def chosen_lesions(run, kinds, per_kind):
    """The first lesions of each kind in each scan, each with healthy volumes."""
    table = run.table("03_lesions")
    table = table[table["kind"].isin(kinds)].groupby(["scan", "kind"]).head(per_kind)
    return table.sort_values("scan", kind="stable").assign(healthy=True)


def make_work(run, folder):
    """{name: (function, items)}; maps are kept in the folder."""
    rows = run.scans().set_index("scan", drop=False).to_dict("index")
    network = {"weights": run.weights(), "device": "cpu"}
    threshold = recorded_threshold(load_weights(run.weights())[1], run.weights())
    lesions = chosen_lesions(run, ["TP", "FN"], 1).to_dict("records")
    find = partial(find_instances, path=run.map, apart_mm=3.0, seed=0)
    instances = sum(map(find, group_by_scan(lesions, rows)), [])
    explain = {"folder": folder, "edges_mm": [-3, 0, 3, 6], "settings": SETTINGS}
    given = {"path": run.map, **network}
    margins = {"margin_mm": 3.0, "beside_margin_mm": 3.0, "n": 2, "n_per_third": 1, "surroundings": ["beside cortex"]}
    place = partial(find_sites, path=run.map, **margins, seed=0)
    sites = [(row, kind, at) for row in rows.values() for kind, at in place(row)[0].items() if len(at)]
    sizes = {"diameters_mm": dict.fromkeys([DEEP, "beside cortex"], [6.0]), "contrasts": CONTRASTS}
    explained = {"diameters_mm": [6.0], "contrasts": CONTRASTS, "noise": NOISE, "seed": 0}
    twice = {"threshold": threshold, "outline": threshold, "instances": {}, "edges_mm3": [60.0, 300.0], "seed": 0}
    change = {"path": run.map, **network, "threshold": threshold, "noise": NOISE, "seed": 0}
    predicted = chosen_lesions(run, ["TP"], 1).to_dict("records")
    groups = group_by_scan(predicted, rows)
    return {
        "find instances": (find, group_by_scan(lesions, rows)),
        "explain instances": (
            partial(explain_instances, **network, **explain),
            group_by_scan(instances, rows),
        ),
        "find sites": (place, list(rows.values())),
        "predict insertions": (
            partial(predict_insertions, **network, threshold=threshold, **sizes),
            sites,
        ),
        "explain insertions": (partial(explain_insertions, **network, **explained), sites),
        "predict twice": (partial(predict_twice, **given, **twice), list(rows.values())[:1]),
        "predict changes": (partial(predict_changes, **change), groups),
        "hide surroundings": (
            partial(hide_surroundings, **given, steps=STEPS, window=None, variants=VARIANTS, threshold=threshold),
            groups,
        ),
        "measure places": (partial(measure_places, **given, farthest_mm=6, noise=NOISE, seed=0), groups),
    }
