"""Dock widget of napari: find particles, move the threshold, keep or reject, suggest, retrain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from magicgui.widgets import ComboBox, Container, FileEdit, FloatSlider, Label, LineEdit, PushButton

from cryovox.models.card import EMBEDDED
from cryovox.napari.layers import KEPT, REJECTED, UNDECIDED
from cryovox.napari.session import Session, apply_threshold, decide, decisions_of


def picker(napari_viewer: Any) -> Picker:
    """The widget; napari calls this."""
    return Picker(napari_viewer)


class Picker(Container):  # type: ignore[misc]  # magicgui has no types that mypy follows here
    """Widget for one viewer.

    Parameters
    ----------
    viewer
        Viewer, whose first image layer with a file is the tomogram.
    """

    def __init__(self, viewer: Any) -> None:
        self.viewer = viewer
        self.folder = FileEdit(mode="d", label="results", value=Path("napari-results"))
        self.model = LineEdit(label="model", value=str(EMBEDDED))
        self.species = LineEdit(label="species", value="", tooltip="such as ribosome=125, a radius in Å")
        self.device = ComboBox(label="device", choices=("auto", "cpu", "cuda", "mps"))
        self.threshold = FloatSlider(label="threshold", min=0.0, max=1.0, value=0.5)
        self.status = Label(value="")
        buttons = {
            "Find": self.find,
            "Keep selected": lambda: self.decide(KEPT),
            "Reject selected": lambda: self.decide(REJECTED),
            "No decision": lambda: self.decide(UNDECIDED),
            "Suggest": self.suggest,
            "Retrain": self.retrain,
        }
        self.buttons = {text: PushButton(text=text) for text in buttons}
        for text, action in buttons.items():
            self.buttons[text].changed.connect(lambda _=None, action=action: self._safely(action))
        self.threshold.changed.connect(lambda _: self._safely(self.apply_threshold))
        fields = (self.folder, self.model, self.species, self.device, self.threshold)
        super().__init__(widgets=[*fields, *self.buttons.values(), self.status], labels=True)

    def session(self) -> Session:
        """The tomogram and the settings of the fields."""
        path = next((Path(layer.source.path) for layer in self.viewer.layers if _is_tomogram(layer)), None)
        if path is None:
            raise ValueError("open a tomogram first: drag its file into the viewer")
        species = tuple(self.species.value.split())
        return Session(path, Path(self.folder.value), Path(self.model.value), species, self.device.value)

    def find(self) -> None:
        """Search the tomogram, and show scores and picks."""
        for data, attributes, kind in self.session().find():
            self._show(data, attributes, kind)
        self.apply_threshold()

    def apply_threshold(self) -> None:
        """Show the picks from the threshold on."""
        if (layer := self._picks()) is not None:
            self.status.value = f"{apply_threshold(layer, self.threshold.value)} picks"

    def decide(self, value: str) -> None:
        """Keep or reject the selected points."""
        layer = self._picks()
        count = 0 if layer is None else decide(layer, value)
        self.status.value = f"{count} picks decided" if count else "select points of the picks first"

    def suggest(self) -> None:
        """Show places to annotate next."""
        self._show(*self.session().suggest())

    def retrain(self) -> None:
        """Train on the decisions, and take the new model."""
        layer = self._picks()
        if layer is None:
            raise ValueError("find particles first")
        self.model.value = str(self.session().retrain(decisions_of(layer)))
        self.status.value = "trained; Find searches with the new model"

    def _picks(self) -> Any:
        """The layer of points to work on: the selected one, else the last."""
        own = [one for one in self.viewer.layers if "keep" in getattr(one, "features", ())]
        active = self.viewer.layers.selection.active
        return active if active in own else (own[-1] if own else None)

    def _show(self, data: Any, attributes: dict[str, Any], kind: str) -> None:
        """Add a layer, in place of one of the same name."""
        if attributes["name"] in self.viewer.layers:
            self.viewer.layers.remove(attributes["name"])
        getattr(self.viewer, f"add_{kind}")(data, **attributes)

    def _safely(self, action: Any) -> None:
        """Run an action; an error becomes the status line."""
        try:
            action()
        except Exception as error:  # the widget lives on, whatever a model or a file does
            self.status.value = str(error)


def _is_tomogram(layer: Any) -> bool:
    path = getattr(layer.source, "path", None)
    return path is not None and type(layer).__name__ == "Image" and not str(path).endswith(".zarr")
