"""The panel of notebook 00_explore: choose a scan and a lesion, see what explains it, keep the map and a figure."""

import asyncio
import time
from html import escape
from io import BytesIO

from ipywidgets import (
    HTML,
    BoundedFloatText,
    BoundedIntText,
    Button,
    Checkbox,
    Dropdown,
    FloatProgress,
    FloatSlider,
    HBox,
    Image,
    Select,
    ToggleButtons,
    VBox,
)

from lib.explorer.pictures import colour_scale, plot_curves, plot_lesion, plot_scale_bar
from lib.explorer.session import PAUSE_S, Exploration, Settings
from lib.explorer.texts import HEADER, lesion_options, numbers_html, place_html
from lib.explorer.viewer import Viewer
from lib.figures import KIND_COLOURS, METHOD_LABELS
from lib.scans import SEQUENCES

FIRST_MM3 = 50  # the first lesion shown is the largest TP up to this volume, which is explained within seconds
CSS = "<style>.explore select[size], .explore pre {font: 12px monospace} .explore pre {margin: 0 6px}</style>"


class Explorer(VBox):
    """run, source: arguments of `exploration.Exploration`.  n_samples, noise_fraction: what the panel starts with.
    largest_radius_mm: of the context curve.

    opened, explained, context: what is on screen (`exploration.Opened`, `exploration.Explained`, a table); None before.
    Whatever goes wrong is said in the panel.
    """

    def __init__(self, run, *, n_samples, noise_fraction, largest_radius_mm, **source):
        self.opened = self.explained = self.context = self._task = self._voxel = None
        self._largest_radius_mm = largest_radius_mm
        self._make_controls(n_samples, noise_fraction)
        super().__init__(self._arranged())
        self.add_class("explore")
        try:
            self._exploration = Exploration(run, **source)
        except (ValueError, OSError) as error:
            self._say(error, wrong=True)
            return
        self._connect()
        scans = self._exploration.scans
        self.scan.options = [(f"{row.scan} ({row.split})", row.scan) for row in scans.itertuples()]
        self.scan.index = 0

    def _make_controls(self, n_samples, noise_fraction):
        narrow, wide = {"description_width": "45px"}, {"description_width": "110px"}
        self.scan = Dropdown(description="scan", style=narrow, layout={"width": "290px"})
        self.sequence = ToggleButtons(options=SEQUENCES, style={"button_width": "80px"}, layout={"width": "190px"})
        self.layers = {
            name: Checkbox(True, description=name, indent=False, layout={"width": "110px"})
            for name in ("prediction", "annotation")
        }
        self.opacity = FloatSlider(
            1, min=0, max=1, step=0.05, description="map opacity", readout_format=".0%", style=wide
        )
        self.viewer = Viewer()
        self.place, self.bar = HTML("click into the scan, or choose a lesion"), Image(layout={"width": "430px"})
        self.lesion = Select(rows=13, layout={"width": "440px"})
        methods = [(name, method) for method, name in METHOD_LABELS.items()]
        self.method = Dropdown(options=methods, description="method", style=wide)
        self.n_samples = BoundedIntText(n_samples, min=1, max=1000, description="noisy copies N", style=wide)
        self.noise = BoundedFloatText(
            noise_fraction, min=0, max=1, step=0.01, description="noise SD / range", style=wide
        )
        self.save = Button(description="Save map and figure", icon="download", disabled=True, layout={"width": "200px"})
        self.progress, self.message = FloatProgress(max=1, layout={"width": "440px"}), HTML(layout={"width": "440px"})
        self.numbers, self.curves = HTML(), Image(layout={"width": "520px"})

    def _arranged(self):
        """Rows of the panel, from above."""
        squares = [f'<span style="color:{KIND_COLOURS[kind]}">&#9632;</span> {kind}' for kind in ("TP", "FP", "FN")]
        legend = HTML(f"{CSS}outlines: {' &nbsp;'.join(squares)} &nbsp;&#9633; annotated")
        choices = [HTML(f"<pre>{HEADER}</pre>"), self.lesion, self.method, self.n_samples, self.noise, self.save]
        return [
            HBox([self.scan, self.sequence, *self.layers.values(), legend]),
            self.viewer.widget,
            self.place,
            HBox([self.opacity, self.bar], layout={"justify_content": "flex-end"}),
            HBox([VBox([*choices, self.progress, self.message]), VBox([self.numbers, self.curves])]),
        ]

    def _connect(self):
        self.scan.observe(lambda _: self._start(self._open), "value")
        for control in (self.lesion, self.method, self.n_samples, self.noise):
            control.observe(lambda _: self.lesion.value is not None and self._start(self._explain), "value")
        for control in (self.sequence, *self.layers.values(), self.opacity):
            control.observe(lambda _: self._style(), "value")
        self.save.on_click(lambda _: self._start(self._save))
        self.viewer.widget.on_location_change(lambda at: self._go(self.opened and self.opened.voxel(at["mm"][:3])))
        self.viewer.widget.on_mouse_up(lambda _: self._choose())

    def _start(self, work):
        """Do this and nothing else: what is being computed for an earlier choice is given up."""
        if self._task:
            self._task.cancel()
        self._task = asyncio.get_running_loop().create_task(self._guarded(work))

    async def _guarded(self, work):
        try:
            await work()
        except Exception as error:
            self._say(error, wrong=True)

    async def _open(self):
        self.opened = self.lesion.index = self._voxel = None
        self._forget()
        self._say(f"opening {self.scan.value}; if the run has not predicted it, it is predicted first")
        await asyncio.sleep(PAUSE_S)
        opened = self._exploration.open(self.scan.value, self._report)
        self.viewer.show(opened.scan, opened.outlines())
        self._style()
        self.opened = opened
        options, table = lesion_options(opened.lesions), opened.lesions
        self._say("choose a lesion" if options else "there is no lesion in this scan, annotated or predicted")
        self.lesion.options = options
        quick = table.index[(table["kind"] == "TP") & (table["volume_mm3"] <= FIRST_MM3)]
        if options:
            self.lesion.value = next((index for _, index in options if index in quick), options[0][1])

    async def _explain(self):
        lesion, start = self.opened.lesions.loc[self.lesion.value], time.perf_counter()
        self._forget()
        self._style()
        self._say(f"explaining {lesion['kind']} {lesion['label']}, {lesion['voxels']} voxels")
        await asyncio.sleep(PAUSE_S)
        self._go(self.opened.middle(lesion), move=True)
        settings = Settings(self.method.value, self.n_samples.value, self.noise.value)
        self.explained = one = await self._exploration.explain(self.opened, lesion, settings, self._report)
        scale = colour_scale(settings.method, one.maps)
        self.viewer.show_maps(one.maps, scale)
        self._style()
        self._go(self._voxel)
        self.bar.value = _png(plot_scale_bar(settings.method, scale))
        self.numbers.value = numbers_html(one)
        self.progress.value = 1
        self._say(f"{lesion['kind']} {lesion['label']} explained in {time.perf_counter() - start:.1f} s")
        await asyncio.sleep(PAUSE_S)  # the map is on screen before the curves are computed
        self.context = self._exploration.context(one, self._largest_radius_mm)
        threshold = self._exploration.threshold
        self.curves.value = _png(plot_curves(settings.method, one.profile, self.context, threshold))
        self.save.disabled = False

    async def _save(self):
        one, lesion = self.explained, self.explained.lesion
        title = f"{one.opened.row['scan']}, {lesion['kind']} {lesion['label']}, {lesion['volume_mm3']:.0f} mm³"
        if one.settings.method != "grad_cam":
            title += f", N = {one.settings.n_samples}, noise {one.settings.noise_fraction:g} of the range"
        figure = plot_lesion(
            title, one.opened.scan.image, one.mask, one.opened.scan.spacing_mm, one.settings.method, one.maps,
            one.profile, self.context, self._exploration.threshold,
        )  # fmt: skip
        path = self._exploration.save(one, figure)
        self._say(f"saved {path}: .pdf, .png, .json, " + ", ".join(f"_{name}.nii.gz" for name in one.maps))

    def _forget(self):
        self.explained = self.context = None
        self.viewer.show_maps({})
        self.save.disabled, self.progress.value, self.curves.value, self.numbers.value = True, 0, b"", ""

    def _style(self):
        shown = [name for name, box in self.layers.items() if box.value]
        self.viewer.style(self.sequence.value, shown, self.opacity.value)

    def _choose(self):
        """Choose the lesion at the crosshair."""
        lesion = self.opened.lesion_at(self._voxel) if self._voxel else None
        if lesion is not None:
            self.lesion.value = lesion

    def _go(self, voxel, move=False):
        """Say what is at a voxel, and move the crosshair there if it is not there yet."""
        self._voxel = voxel
        if voxel:
            self.place.value = place_html(self.opened, self.explained, voxel)
            if move:
                self.viewer.look_at(voxel)

    def _report(self, share):
        self.progress.value = share

    def _say(self, text, wrong=False):
        colour = "var(--jp-error-color1)" if wrong else "inherit"
        self.message.value = f'<span style="color: {colour}; line-height: 1.3">{escape(str(text))}</span>'


def _png(figure):
    """Bytes of a figure for the screen, at twice its pixels."""
    file = BytesIO()
    figure.savefig(file, format="png", dpi=220)
    return file.getvalue()
