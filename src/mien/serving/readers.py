"""The models of a server: opened on first use and shared by all requests."""

import threading
from dataclasses import dataclass
from functools import lru_cache, partial

from .. import cards
from ..cards import Card
from ..errors import ConfigError
from ..faces.detection import open_detector
from ..faces.finder import FaceFinder, open_finder
from ..faces.landmarks import Blendshapes
from ..inference.options import DEFAULTS
from ..inference.recognizer import Recognizer
from ..runtime.devices import use
from ..runtime.open_model import Runtime, open_model
from .problems import Problem
from .schemas import Options
from .settings import Settings

DETECTORS = 8  # detectors kept open, one for each combination of `min_size` and `small_faces`


@dataclass(frozen=True, slots=True)
class Key:
    """Options that two images must share to be in the same batch."""

    model: str
    min_size: int
    small_faces: bool
    max_faces: int
    blendshapes: bool


class Readers:
    """Recognizers by the options of a request. Thread-safe.

    The cards are read, and the default model, the detector and the meshes opened at once; other networks on first use. Raises
    UnknownName, WeightsError and MissingExtra as `mien.load` does, and ConfigError if two models have the same name, or one of
    them cannot cut faces out of images.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.cards: dict[str, Card] = {}
        self._sources: dict[str, str] = {}
        self._models: dict[str, tuple[Card, Runtime]] = {}
        bundled = [card.name for card in cards.bundled().values() if card.kind == "classifier"]
        bundled.sort(key=lambda name: (name != DEFAULTS.model, name))
        for model in (*settings.models, *(name for name in bundled if name not in settings.models)):
            with use(settings.device):
                card, runtime = open_model(model)
            if card.crop is None:
                if model in bundled:
                    continue
                message = f"the card of {model} has no crop contract, so it cannot crop faces; name another"
                raise ConfigError(message, value=model)
            if card.name in self.cards:
                both = f"{self._sources[card.name]} and {model}"
                raise ConfigError(f"two models are named {card.name!r}: {both}; rename one card")
            self.cards[card.name], self._sources[card.name] = card, model
            if not self._models:
                self._models[card.name] = (card, runtime)
        self.default = next(iter(self.cards))
        self._lock = threading.Lock()
        self._detector = lru_cache(DETECTORS)(partial(open_detector, settings.detector))
        with use(settings.device):
            self._finder, self._blendshapes = open_finder(settings.detector), Blendshapes()
            self._detector(min_size=0, small_faces=False)  # so that its errors are raised at the start

    def key(self, options: Options) -> Key:
        """Return the key of a request's options; Problem for an unknown model."""
        model = self.default if options.model is None else options.model
        if model not in self.cards:
            raise Problem("invalid", f"unknown model {model[:60]!r}; this server has {', '.join(self.cards)}")
        most = self.settings.limits.faces
        return Key(model, options.min_size, options.small_faces, min(options.max_faces or most, most), options.blendshapes)

    def __call__(self, key: Key) -> Recognizer:
        """Return the recognizer for a key; its networks are shared with all others."""
        with self._lock, use(self.settings.device):
            if key.model not in self._models:
                self._models[key.model] = open_model(self._sources[key.model])
            card, runtime = self._models[key.model]
            detector, shared = self._detector(min_size=key.min_size, small_faces=key.small_faces), self._finder
            sizes = {"min_size": key.min_size, "max_faces": key.max_faces}
            finder = FaceFinder(detector, shared.landmarker, second=shared.second, **sizes)
            return Recognizer(card, runtime, finder, self._blendshapes if key.blendshapes else None)
