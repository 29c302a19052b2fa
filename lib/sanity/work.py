"""The checks of one lesion: items of work (`run.compute_each`).

facts: subject, scan and label of a lesion.  case: of `explain_case`.
scene: function of scan and label that gives image and baseline (2, X, Y, Z), labels (X, Y, Z) and spacing_mm.
noise: n_samples, noise_fraction and statistics of `smoothgrad`.  Tables end with the facts.
"""

import numpy as np

from lib.lesions import signed_distance
from lib.saliency import lesion_generator
from lib.sanity.checks import explain_lesion, infidelity, perturbation_curves
from lib.sanity.leakage import leakage
from lib.sanity.randomisation import weight_randomisation
from lib.sanity.relabelling import compare_networks


def explain_case(facts, *, model, scene, noise, layer, seed):
    """`explain_lesion`, with facts and spacing_mm."""
    name, label = facts["scan"], facts["label"]
    image, baseline, labels, spacing_mm = scene(name, label)
    given = model, image, labels == label, baseline, spacing_mm
    return explain_lesion(*given, **noise, layer=layer, seed=[seed, name, label]) | {
        "facts": facts,
        "spacing_mm": spacing_mm,
    }


def draw_weights(case, *, model, scene, noise, most_layers, seed):
    """`weight_randomisation` of a case; each has a draw of its own."""
    name, label = case["facts"]["scan"], case["facts"]["label"]
    image, _, labels, _ = scene(name, label)
    given = model, image, labels == label, case["where"]
    table = weight_randomisation(*given, most_layers=most_layers, seed=[seed, name, label], **noise)
    return table.assign(**case["facts"])


def compare_labels(case, *, networks, scene, noise, seed):
    """`compare_networks` of a case.  networks: {name: model}."""
    name, label = case["facts"]["scan"], case["facts"]["label"]
    image, _, labels, _ = scene(name, label)
    given = case["first"][0], networks, image, labels == label, case["where"]
    return compare_networks(*given, seed=[seed, name, label], **noise).assign(**case["facts"])


def perturb(item, *, model, fractions, unit):
    """`perturbation_curves` of a case.  item: case, random values (n, X, Y, Z).  unit: of the score."""
    case, in_random_order = item
    rankings = {
        "SmoothGrad": [np.abs(case["first"][0]).sum(0)],
        "Grad-CAM++": [case["cam"][0]],
        "distance": [-signed_distance(case["lesion"], case["spacing_mm"])],
        "random": in_random_order,
    }
    curve = perturbation_curves(model, case["volume"], case["lesion"], case["baseline"], rankings, fractions)
    return curve.assign(**case["facts"], of=curve["of"].replace("logit", unit))


def measure_infidelity(item, *, model, n_perturbations, seed):
    """`infidelity` of a case.  item: case, the values of its first map in random places (n,)."""
    case, shuffled = item
    smooth = case["first"][0]
    candidates = {
        "SmoothGrad": smooth,
        "shuffled": shuffled.reshape(smooth.shape),
        "lesion mask": np.broadcast_to(case["lesion"], smooth.shape).astype(np.float32),
    }
    generator = lesion_generator(seed + 2, *case["facts"].values())
    given = model, case["volume"], case["lesion"], candidates
    table = infidelity(*given, sigma=case["sigma"], n_perturbations=n_perturbations, generator=generator)
    return table.assign(**case["facts"])


def leak(case, *, model, scene):
    """`leakage` of a case to the other lesions of its scan."""
    name, label = case["facts"]["scan"], case["facts"]["label"]
    image, baseline, labels, _ = scene(name, label)
    maps = {
        "SmoothGrad": np.abs(case["first"][0]).sum(0),
        "Grad-CAM++": case["cam"][0],
        "lesion mask": case["lesion"].astype(np.float32),
    }
    return leakage(model, image, labels, label, baseline, maps).assign(**case["facts"])
