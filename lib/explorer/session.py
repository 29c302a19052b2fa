"""Scans and lesions to explore: those of a run as it left them, or scans of one's own, predicted when they are opened."""

import asyncio
import json
from collections import namedtuple
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from itertools import count
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from nibabel.affines import apply_affine

from lib.context import context_response, mean_image, share_score
from lib.exact import find_window
from lib.lesions import instance_mask, label_instances, lesion_table, segment
from lib.network import (
    explained_unit,
    load_weights,
    map_unit,
    own_scan,
    patch_slices,
    predict,
    predict_scan,
    prediction_settings,
    recorded_outline,
    recorded_threshold,
    seen_sequences,
)  # fmt: skip
from lib.provenance import ROOT, code_digest, digest, run_record, write_json
from lib.run import SHIPPED_WEIGHTS, save_figure
from lib.saliency import copy_maps, grad_cam, layer_activations, map_name, measure_maps, noise_generator
from lib.scans import SEQUENCES, Scan, check_scans, find_scans, is_whole, load_labels, load_map, load_scan, save_map

PROFILE_EDGES_MM = range(-5, 17)  # of the shells of the radial profile, as in notebook 4
PAUSE_S = 0.01  # long enough for the kernel to take in what was clicked meanwhile

# How a lesion is explained. method: one of `figures.METHOD_LABELS`; the numbers count for SmoothGrad alone.
Settings = namedtuple("Settings", ["method", "n_samples", "noise_fraction"])

# One lesion and its maps. opened: `Opened`.  lesion: its row of `opened.lesions`.  mask: (X, Y, Z) bool.  maps: {sequence:
# (X, Y, Z)}, the sequence of Grad-CAM++ being "both".  numbers, profile: of `saliency.measure_maps`.
Explained = namedtuple("Explained", ["opened", "lesion", "settings", "mask", "maps", "numbers", "profile"])


@dataclass(frozen=True, eq=False)
class Opened:
    """A scan with its lesions. scan: intensities as stored.  probability, predicted, annotated: (X, Y, Z), the last two
    label images.  lesions: rows of `lesions.lesion_table`.  own: the scan as the network wants it.  unit, score_unit: of saliency,
    and of the score it explains.  sequences: that the network sees."""

    row: dict
    scan: Scan
    probability: np.ndarray
    predicted: np.ndarray
    annotated: np.ndarray
    lesions: pd.DataFrame
    own: Scan
    unit: str
    score_unit: str
    sequences: list

    @cached_property
    def volume(self):
        """FLAIR and MPRAGE, (1, 2, X, Y, Z) tensor, z-scored or as the network wants them."""
        return torch.as_tensor(self.own.image)[None]

    def middle(self, lesion):
        """The voxel (x, y, z) of a lesion that is nearest to its centroid."""
        voxels = np.argwhere(instance_mask(lesion, self.predicted, self.annotated))
        return tuple(voxels[np.square(voxels - voxels.mean(0)).sum(1).argmin()].tolist())

    def outlines(self):
        """Masks (X, Y, Z) bool by layer and kind, for `Viewer.show`."""
        of = {kind: rows["label"] for kind, rows in self.lesions.groupby("kind")}
        return {
            "annotation": {"annotation": self.annotated > 0, "FN": np.isin(self.annotated, of.pop("FN", []))},
            "prediction": {kind: np.isin(self.predicted, labels) for kind, labels in of.items()},
        }

    def voxel(self, place_mm):
        """The voxel (x, y, z) at a place in world mm; None outside the scan."""
        voxel = np.rint(apply_affine(np.linalg.inv(self.scan.affine), place_mm)).astype(int)
        inside = (voxel >= 0).all() and (voxel < self.scan.brain.shape).all()
        return tuple(voxel.tolist()) if inside else None

    def lesion_at(self, voxel):
        """Index in `lesions` of the instance that holds a voxel; None if none does."""
        labels = np.where(self.lesions["kind"] == "FN", self.annotated[voxel], self.predicted[voxel])
        return next(iter(self.lesions.index[self.lesions["label"] == labels]), None)


class Exploration:
    """The scans of a run, or of `data`, and the network that explains their lesions.

    run: `run.Run`.  data: source of scans (`find_scans`); empty: the scans of the run.  weights: empty: those of the run, or
    for `data` the ones that come with the project.  layer: of Grad-CAM++.  choose: of `find_scans`.  statistics: of
    `smoothgrad`.
    Raises FileNotFoundError if there is no such run, ValueError if `data` is not as data/README.md says.
    """

    def __init__(self, run, *, data, weights, layer, device, seed, choose="", statistics="exact"):
        if not data and not run.scans_file.exists():
            raise FileNotFoundError(
                f"there is no run in {run.build}: make one (`make paper`), or name scans of your own in the parameters (data)"
            )
        self.run, self.layer, self.device, self.seed, self.statistics = run, layer, device, seed, statistics
        scans = find_scans(ROOT / data, choose).assign(split="test") if data else run.scans()
        self.scans = scans.sort_values("split", key=lambda split: split != "test", kind="stable")
        self.as_evaluated = not data and not weights
        given = run.build / "parameters" / "03_evaluation.json"  # to a run that did not train its own weights
        given = json.loads(given.read_text()) if given.exists() else {}
        names = ("neighbours", "merged_mm", "smallest_mm3") if self.as_evaluated else ()
        self._instances = {name: given[name] for name in names if name in given}
        weights = given.get("weights", "") if self.as_evaluated else weights or SHIPPED_WEIGHTS
        self.weights = run.weights(weights)
        self.activations = lru_cache(1)(lambda opened: layer_activations(self.model, opened.volume, layer))

    @cached_property
    def _loaded(self):
        return load_weights(self.weights, self.device)

    model = property(lambda self: self._loaded[0])
    sequences = property(lambda self: seen_sequences(self._loaded[1]))
    unit = property(lambda self: map_unit(self._loaded[1]))
    score_unit = property(lambda self: explained_unit(self._loaded[1]))
    threshold = property(lambda self: recorded_threshold(self._loaded[1], self.weights))

    def open(self, name, report):
        """The scan of this name. One that the run has not predicted is predicted first, and the map kept for next time.

        report: function of the share done, 0 to 1.  Raises ValueError or OSError if files of the scan are not usable.
        """
        row = self.scans.set_index("scan", drop=False).loc[name].to_dict()
        if self.as_evaluated and self.run.map(name, "desc-pred_dseg").exists():
            lesions = self.run.table("03_lesions").query("scan == @name")
            probability = load_map(self.run.map(name, "desc-pred_probseg"))
            maps = probability, *load_labels(row, self.run.map)
            return self._opened(row, load_scan(row, normalised=False), *maps, lesions)
        check_scans(pd.DataFrame([row]))
        scan = load_scan(row, normalised=False)
        outline = recorded_outline(self._loaded[1], self.weights)
        probability = self._predict(row, scan, report)
        label = partial(label_instances, **self._instances, affine=scan.affine)
        labels = [label(mask) for mask in (segment(probability, self.threshold, outline, label), scan.lesions)]
        annotation = scan.lesions if scan.annotated else None
        table = lesion_table(probability, annotation, self.threshold, scan.affine, outline, label)
        return self._opened(row, scan, probability, *labels, table)

    def _opened(self, row, scan, *found):
        own = own_scan(scan, self._loaded[1])
        return Opened(row, scan, *found, own, self.unit, self.score_unit, self.sequences)

    def _predict(self, row, scan, report):
        model, settings = self.model, prediction_settings(self._loaded[1])
        window, mirrored = np.broadcast_to(settings["window"], 3), settings["mirrored"]
        passes = 2 ** (len(mirrored) if isinstance(mirrored, list) else mirrored)
        made_from = digest(
            self._loaded[1]["digest"], settings, Path(row["flair"]), Path(row["t1w"]), code_digest(predict_scan)
        )
        path = self.run.build / "explore" / "predictions" / f"{row['scan']}_{made_from}.nii.gz"
        if not is_whole(path):
            done = count(1)
            patches = len(patch_slices(np.maximum(scan.brain.shape, window.max()).tolist(), int(window.max())))
            with model.register_forward_hook(lambda *_: report(min(next(done) / patches / passes, 1))):
                probability = predict(model, own_scan(scan, self._loaded[1]).image, **settings)
            save_map(probability, row["flair"], path)
        return load_map(path)

    async def explain(self, opened, lesion, settings, report):
        """One lesion explained: its map and the numbers taken from it.

        lesion: row of `opened.lesions`.  report: function of the share done, 0 to 1.  The noise is that of notebook 4.
        Between two noisy copies the kernel takes in what the user does; a task that is cancelled stops there.
        Raises ValueError if the settings cannot be used.
        """
        scan, mask = opened.scan, instance_mask(lesion, opened.predicted, opened.annotated)
        if settings.method == "grad_cam":
            cam = grad_cam(self.model, opened.volume, mask, layer=self.layer, activations=self.activations(opened))
            saliency = cam[None].cpu().numpy()
        else:
            saliency = await self._smoothgrad(opened, lesion, mask, settings, report)
        maps = {settings.method: saliency}
        numbers, profile = measure_maps(maps, mask, scan.brain, scan.spacing_mm, PROFILE_EDGES_MM)
        maps = dict(zip(numbers["sequence"], saliency, strict=True))
        return Explained(opened, lesion, settings, mask, maps, numbers, profile)

    async def _smoothgrad(self, opened, lesion, mask, settings, report):
        window, total = find_window(self.model, mask, mask.shape), 0
        generator = noise_generator(window, self.seed, opened.row["scan"], lesion["kind"], int(lesion["label"]))
        copies = copy_maps(
            self.model, opened.volume, mask, n_samples=settings.n_samples, noise_fraction=settings.noise_fraction,
            aggregate=settings.method.removeprefix("smoothgrad_"), generator=generator, statistics=self.statistics,
        )  # fmt: skip
        with closing(copies):
            for number, one in enumerate(copies, 1):
                total = total + one
                report(number / settings.n_samples)
                await asyncio.sleep(PAUSE_S)
        return window.paste(total / settings.n_samples, mask.shape).cpu().numpy()

    def context(self, explained, largest_radius_mm):
        """`context.context_response` of the explained lesion at radii of 0, 1, 2, ... mm."""
        opened, mask, radii_mm = explained.opened, explained.mask, range(largest_radius_mm + 1)
        given, fill = (mask, radii_mm, opened.scan.spacing_mm, self.threshold), mean_image(opened.own)
        return context_response(self.model, opened.volume, *given, fill=fill)

    def shares(self, explained):
        """`context.share_score` of the explained lesion with the mean in place of the rest, as in notebook 8.

        Raises ValueError if the network sees one sequence alone, and as `share_score`.
        """
        opened = explained.opened
        if len(self.sequences) < len(SEQUENCES):
            raise ValueError(f"the network sees {self.sequences[0]} alone, to which the whole score is owed")
        fills = {"mean": mean_image(opened.own)}
        return share_score(self.model, opened.volume, explained.mask, opened.scan.spacing_mm, fills)

    def save(self, explained, figure, shares):
        """Write the map of each sequence (NIfTI in the space of the FLAIR file) and the figure (PDF, PNG) into
        `<build>/explore/`, with a JSON that says what made them and holds the shares (of `shares`; None: there are none).
        Returns the common start of their paths."""
        lesion, row, settings = explained.lesion, explained.opened.row, explained.settings._asdict()
        chosen = {"scan": row["scan"], "kind": lesion["kind"], "label": int(lesion["label"])} | settings
        name = f"{map_name(chosen)}_desc-{settings['method'].replace('_', '')}"
        path = self.run.build / "explore" / name
        record = run_record(self.run.notebook, self.run.parameters | chosen | {"network": self._loaded[1]["digest"]})
        record["shares"] = None if shares is None else shares.to_dict("records")
        for sequence, values in explained.maps.items():
            save_map(values, row["flair"], path.with_name(f"{name}_{sequence}.nii.gz"))
        save_figure(figure, path, record)
        write_json(path.with_suffix(".json"), record)
        return path
