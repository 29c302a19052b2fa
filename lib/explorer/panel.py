"""The panel of notebook 00_explore: choose a scan and a lesion, see what explains it, keep the map and a figure."""

import asyncio
import time
from functools import partial
from html import escape

import ipywidgets as widgets
from IPython.core.pylabtools import print_figure

from lib.explorer.pictures import colour_scale, plot_curves, plot_lesion, plot_scale_bar, plot_share_bars
from lib.explorer.session import PAUSE_S, Exploration, Settings
from lib.explorer.texts import HEADER, lesion_options, numbers_html, place_html
from lib.explorer.viewer import Viewer
from lib.figures import METHOD_LABELS, OUTLINE_COLOURS
from lib.lesions import detected_lesions
from lib.scans import SEQUENCES

FIRST_MM3 = 50  # the first lesion shown is the largest detected one up to this: explained within seconds
SHOWN = ("TP", "FP", "FN", "predicted")  # kinds of lesions
CSS = """<style>.explore select[size], .explore pre {font: 12px monospace} .explore pre {margin: 0 6px}
.explore th + th {padding: 0 10px} .explore td + td {text-align: center}</style>"""

png = partial(print_figure, bbox_inches=None, dpi=220)  # for the screen, at twice its pixels


class Explorer(widgets.VBox):
    """run, source: arguments of `session.Exploration`.  n_samples, noise_fraction: what the panel starts with.
    largest_radius_mm: of the context curve.

    opened, explained, context, shares: what is on screen (`session.Opened`, `session.Explained`, two tables); None before.
    Whatever goes wrong is said in the panel.
    """

    def __init__(self, run, *, n_samples, noise_fraction, largest_radius_mm, **source):
        self.opened = self.explained = self.context = self.shares = self._task = self._voxel = None
        self._largest_radius_mm = largest_radius_mm
        super().__init__(self._make_rows(n_samples, noise_fraction))
        self.add_class("explore")
        try:
            self._exploration = Exploration(run, **source)
        except (ValueError, OSError) as error:
            self._say(error)
            return
        self.scan.observe(lambda _: self._start(self._open), "value")
        for control in (self.lesion, self.method, self.n_samples, self.noise):
            control.observe(lambda _: self.lesion.value is not None and self._start(self._explain), "value")
        for control in (self.sequence, *self.layers.values(), self.opacity):
            control.observe(lambda _: self._style(), "value")
        self.save.on_click(lambda _: self._start(self._save))
        self.viewer.widget.on_location_change(lambda at: self._go(self.opened and self.opened.voxel(at["mm"][:3])))
        self.viewer.widget.on_mouse_up(lambda _: self._choose())
        scans = self._exploration.scans
        self.scan.options = [(f"{row.scan} ({row.split})", row.scan) for row in scans.itertuples()]
        self.scan.index = 0

    def _make_rows(self, n_samples, noise_fraction):
        """The controls, and the rows of the panel, from above."""
        wide, column = {"style": {"description_width": "110px"}}, {"layout": {"width": "440px"}}
        narrow = {"style": {"button_width": "80px"}, "layout": {"width": "190px"}}
        box = partial(widgets.Checkbox, True, indent=False, layout={"width": "110px"})
        self.scan = widgets.Dropdown(description="scan", style={"description_width": "45px"}, layout={"width": "290px"})
        self.sequence = widgets.ToggleButtons(options=SEQUENCES, **narrow)
        self.layers = {name: box(description=name) for name in ("prediction", "annotation")}
        self.opacity = widgets.FloatSlider(1, max=1, step=0.05, description="map opacity", readout_format=".0%", **wide)
        self.viewer, self.place = Viewer(), widgets.HTML("click into the scan, or choose a lesion")
        self.bar, self.curves, self.share_bars = (
            widgets.Image(layout={"width": width}) for width in ("430px", "520px", "520px")
        )
        self.not_shared = widgets.HTML()
        self.lesion, self.numbers = widgets.Select(rows=13, **column), widgets.HTML()
        methods = [(name, method) for method, name in METHOD_LABELS.items()]
        self.method = widgets.Dropdown(options=methods, description="method", **wide)
        self.n_samples = widgets.BoundedIntText(n_samples, min=1, max=1000, description="noisy copies N", **wide)
        self.noise = widgets.BoundedFloatText(noise_fraction, max=1, step=0.01, description="noise SD / range", **wide)
        button = {"icon": "download", "disabled": True, "layout": {"width": "200px"}}
        self.save = widgets.Button(description="Save map and figure", **button)
        self.progress, self.message = widgets.FloatProgress(max=1, **column), widgets.HTML(**column)
        self._report = partial(setattr, self.progress, "value")
        squares = [f'<span style="color:{OUTLINE_COLOURS[kind]}">&#9632;</span> {kind}' for kind in SHOWN]
        legend = widgets.HTML(f"{CSS}outlines: {' &nbsp;'.join(squares)} &nbsp;&#9633; annotated")
        header = widgets.HTML(f"<pre>{HEADER}</pre>")
        choices = [header, self.lesion, self.method, self.n_samples, self.noise, self.save, self.progress, self.message]
        results = [self.numbers, self.curves, self.share_bars, self.not_shared]
        return [
            widgets.HBox([self.scan, self.sequence, *self.layers.values(), legend]),
            self.viewer.widget,
            self.place,
            widgets.HBox([self.opacity, self.bar], layout={"justify_content": "flex-end"}),
            widgets.HBox([widgets.VBox(choices), widgets.VBox(results)]),
        ]

    def _start(self, work):
        """Do this and nothing else: what is being computed for an earlier choice is given up."""
        if self._task:
            self._task.cancel()
        self._task = asyncio.get_running_loop().create_task(self._guarded(work))

    async def _guarded(self, work):
        try:
            await work()
        except Exception as error:
            self._say(error)

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
        said = "choose a lesion" if options else "there is no lesion in this scan, annotated or predicted"
        self._say(said if opened.scan.annotated else said + "; nobody has annotated this scan")
        self.lesion.options = options
        quick = detected_lesions(table).query("volume_mm3 <= @FIRST_MM3").index
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
        self.bar.value = png(plot_scale_bar(settings.method, scale, one.opened.unit))
        self.numbers.value = numbers_html(one)
        self._report(1)
        self._say(f"{lesion['kind']} {lesion['label']} explained in {time.perf_counter() - start:.1f} s")
        await asyncio.sleep(PAUSE_S)  # the map is on screen before the curves are computed
        self.context = self._exploration.context(one, self._largest_radius_mm)
        self.curves.value = png(plot_curves(one, self.context, self._exploration.threshold))
        await asyncio.sleep(PAUSE_S)
        try:
            self.shares = self._exploration.shares(one)
            self.share_bars.value = png(plot_share_bars(self.shares, one.opened.score_unit))
        except (ValueError, RuntimeError) as error:
            self.not_shared.value = f"no shares of FLAIR and MPRAGE: {escape(str(error))}"
        self.save.disabled = False

    async def _save(self):
        figure = plot_lesion(self.explained, self.context, self._exploration.threshold, self.shares)
        path = self._exploration.save(self.explained, figure, self.shares)
        self._say(f"saved {path}: .pdf, .png, .json, " + ", ".join(f"_{name}.nii.gz" for name in self.explained.maps))

    def _forget(self):
        self.explained = self.context = self.shares = None
        self.viewer.show_maps({})
        self.save.disabled, self.progress.value, self.numbers.value, self.not_shared.value = True, 0, "", ""
        self.curves.value = self.share_bars.value = b""

    def _style(self):
        shown = [name for name, box in self.layers.items() if box.value]
        self.viewer.style(self.sequence.value, shown, self.opacity.value)

    def _choose(self):
        """Choose the lesion at the crosshair."""
        if self._voxel and (lesion := self.opened.lesion_at(self._voxel)) is not None:
            self.lesion.value = lesion

    def _go(self, voxel, move=False):
        """Say what is at a voxel, and move the crosshair there if it is not there yet."""
        self._voxel = voxel
        if voxel:
            self.place.value = place_html(self.opened, self.explained, voxel)
        if move:
            self.viewer.look_at(voxel)

    def _say(self, text):
        colour = "var(--jp-error-color1)" if isinstance(text, Exception) else "inherit"
        self.message.value = f'<span style="color: {colour}; line-height: 1.3">{escape(str(text))}</span>'
