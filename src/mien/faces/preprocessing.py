"""From a face in an image to the numbers a network is fed: one path for training's validation, evaluation and use.

    cut (a face in a photograph)  ┐
    take (an image of one face)  ┴─► name → uint8 crop, for each image that the network reads ─► batch ─► the network

Most networks read one image, `image`. Those that also read regions of the face (`eye`, `nose`, `mouth`) state it in their card,
as `reading.inputs`; the regions are cut from the face at 224 × 224 by `mien.faces.regions.region_crops`.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from ..cards import FOUND, Card, Crop, Input, Member, contracts, input_name
from ..errors import WeightsError
from ..registry import lookup
from ..types import points5, points68
from .alignment import TEMPLATES, apply, crop_matrix, dlib_chip_matrix, warp
from .regions import SIDE, region_crops

IMAGE = "image"  # name of the image of the whole face among those that a network reads


class Preprocess:
    """Crop, resize, color and value range as one card specifies.

    `contract` is the card's input contract, `crop` its crop contract, None if the whole image is fed, and `regions` name → side
    of the regions of the face that the network reads besides.
    """

    def __init__(self, contract: Input, crop: Crop | None = None, regions: Mapping[str, int] | None = None) -> None:
        self.input, self.crop, self.regions = contract, crop, dict(regions or {})
        self.size = (contract.size[0], contract.size[1])
        self.raw = contract.dtype == "uint8"
        self.channels = 1 if contract.color == "gray" else 3
        for name, values in (("offsets", contract.offset), ("deviations", contract.std or (1.0,))):
            if len(values) not in (1, self.channels):
                message = f"the card gives {len(values)} {name} for {self.channels} channels; give one, or one for each"
                raise WeightsError(message, value=values)
        self._offset, self._std = np.asarray(contract.offset, np.float32), np.asarray(contract.std, np.float32)
        self._template = lookup(crop.template, TEMPLATES, "alignment template", plugins=False) if crop else None

    @classmethod
    def of(cls, card: Card) -> "Preprocess":
        """Return the preprocessing of a classifier's card. Raises WeightsError: the card has no input contract."""
        if card.members:
            return EnsemblePreprocess(card.members)
        if card.input is None:
            raise WeightsError(f"the card of {card.name!r} has no [input]; write it")
        regions = {name: side for name, side in card.reading.get("inputs", {}).items() if name != IMAGE}
        return cls(card.input, card.crop, regions)

    @property
    def cuts_faces(self) -> bool:
        """Whether faces can be cut out of photographs: by the card's crop contract, or by dlib's chip for regions."""
        return self.crop is not None or bool(self.regions)

    def matrix(self, mesh: np.ndarray, size: int | None = None) -> np.ndarray:
        """Return the (2, 3) matrix from a photograph to the crop of a face, `size` pixels wide or as the card specifies.

        The mesh (P, 2 or 3) is in pixels of the photograph. Raises WeightsError: the card lacks a crop.
        """
        size = size or self.size[0]
        if self.crop is not None and self._template is not None:
            return crop_matrix(points5(mesh), self._template, size, fit=self.crop.fit, margin=self.crop.margin)
        if self.regions:
            return dlib_chip_matrix(points68(mesh), size)
        raise WeightsError("this card has no crop contract: feed it whole images (detector 'whole')")

    def cut(self, image: np.ndarray, mesh: np.ndarray) -> dict[str, np.ndarray]:
        """Cut the images that the network reads, name → (h, w, channels) uint8, of a face out of a photograph.

        The photograph is (H, W, 3) uint8 RGB, the mesh (P, 2 or 3) in its pixels.
        """
        face = self._color(warp(image, self.matrix(mesh), self.size[0], gray=self.channels == 1 and not self.raw))
        if not self.regions:
            return {IMAGE: face}
        matrix = self.matrix(mesh, SIDE)
        return {IMAGE: face, **self._regions(warp(image, matrix, SIDE), apply(matrix, points68(mesh)))}

    def take(self, image: np.ndarray, mesh: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Take the images that the network reads, as `cut` gives them, from an image that a face fills.

        The image is (H, W), (H, W, 1) or (H, W, 3) uint8 RGB. The mesh in its pixels is for networks that read regions; without
        it average regions are cut.
        """
        plain = image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
        found = {IMAGE: self.whole(plain)}
        return found | self._regions(plain, None if mesh is None else points68(mesh)) if self.regions else found

    def _regions(self, face: np.ndarray, points: np.ndarray | None) -> dict[str, np.ndarray]:
        return {name: self._color(crop) for name, crop in region_crops(face, points, self.regions).items()}

    def batch(self, faces: Sequence[Mapping[str, np.ndarray]]) -> np.ndarray | dict[str, np.ndarray]:
        """Return what the network is fed for these faces: one array (N, …) float32, or name → array if it reads several."""
        arrays = {name: self.tensor(np.stack([face[name] for face in faces])) for name in (IMAGE, *self.regions)}
        return arrays if self.regions else arrays[IMAGE]

    def whole(self, image: np.ndarray) -> np.ndarray:
        """Take an image that is a face crop already: (H, W), (H, W, 1) or (H, W, 3) uint8 → (h, w, channels) uint8."""
        if image.ndim == 3 and image.shape[2] == 1:
            image = image[..., 0]
        return self._color(self.resize(image, *self.size))

    def tensor(self, crops: np.ndarray) -> np.ndarray:
        """Bring a stack of crops (N, h, w, channels) uint8 to the network's layout and value range, float32.

        Networks that prepare images themselves get them as they are.
        """
        if self.raw:
            return np.ascontiguousarray(crops)
        values = crops.astype(np.float32)
        values *= np.float32(self.input.scale)
        values += self._offset
        if self._std.size:
            values /= self._std
        return np.ascontiguousarray(values.transpose(0, 3, 1, 2)) if self.input.layout == "NCHW" else values

    def resize(self, image: np.ndarray, height: int, width: int) -> np.ndarray:
        """Bring an image (H, W) or (H, W, 3) uint8 to another size, as the card specifies."""
        if image.shape[:2] == (height, width):
            return image
        if self.input.resize == "pil-bilinear":
            return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
        return resize_cv2(image, height, width)

    def _color(self, image: np.ndarray) -> np.ndarray:
        if self.channels == 1 and not self.raw:
            return gray(image)[..., None]
        if image.ndim == 2:
            return np.repeat(image[..., None], 3, 2)
        return image[..., ::-1] if self.input.color == "bgr" and not self.raw else image


class EnsemblePreprocess(Preprocess):
    """Preprocessing of an ensemble: the inputs of all members, each distinct contract once.

    Sizes and crops of the face itself are those of the first member. With regions there is a further input `FOUND`: whether
    the landmarks are known.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        numbers = contracts(members)
        first = [members[numbers.index(number)] for number in range(max(numbers) + 1)]
        self.parts = []
        for each in first:
            if each.input is None:
                raise WeightsError(f"member {each.card} of the ensemble has no input contract", path=each.card)
            self.parts.append(Preprocess(each.input, each.crop, each.regions))
        super().__init__(self.parts[0].input, self.parts[0].crop)
        self.regions = {
            input_name(number, name): side for number, part in enumerate(self.parts) for name, side in part.regions.items()
        }

    @property
    def cuts_faces(self) -> bool:
        """Whether every member can crop faces from photographs."""
        return all(part.cuts_faces for part in self.parts)

    def matrix(self, mesh: np.ndarray, size: int | None = None) -> np.ndarray:
        """Return the matrix of the first member."""
        return self.parts[0].matrix(mesh, size)

    def cut(self, image: np.ndarray, mesh: np.ndarray) -> dict[str, np.ndarray]:
        """Cut the inputs of all members out of a photograph."""
        return self._joined([part.cut(image, mesh) for part in self.parts], found=True)

    def take(self, image: np.ndarray, mesh: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Take the inputs of all members from an image of one face."""
        return self._joined([part.take(image, mesh) for part in self.parts], found=mesh is not None)

    def batch(self, faces: Sequence[Mapping[str, np.ndarray]]) -> np.ndarray | dict[str, np.ndarray]:
        """Return the input of the ensemble: one array, or name → array with several contracts or regions."""
        arrays = {}
        for number, part in enumerate(self.parts):
            for name in (IMAGE, *part.regions):
                key = input_name(number, name)
                arrays[key] = part.tensor(np.stack([face[key] for face in faces]))
        if self.regions:
            arrays[FOUND] = np.array([face[FOUND].item() > 0 for face in faces], np.float32)
        return arrays if len(arrays) > 1 else arrays[IMAGE]

    def _joined(self, parts: Sequence[Mapping[str, np.ndarray]], *, found: bool) -> dict[str, np.ndarray]:
        crops = {input_name(number, name): crop for number, part in enumerate(parts) for name, crop in part.items()}
        return crops | ({FOUND: np.full((1, 1, 1), 255 * found, np.uint8)} if self.regions else {})


def between(ours: Input, theirs: Input) -> np.ndarray:
    """Return (2, 3) scale and shift of the input values: theirs = scale × ours + shift, for each of red, green and blue."""

    def three(values: tuple[float, ...]) -> np.ndarray:
        return np.broadcast_to(np.asarray(values or (1.0,), np.float64), 3)

    # From our value to the pixel, (value × std − offset) / scale, and from the pixel to their value.
    pixel_scale = three(ours.std) / ours.scale
    pixel_shift = -three(ours.offset) / ours.scale
    scale = pixel_scale * theirs.scale / three(theirs.std)
    return np.stack([scale, (pixel_shift * theirs.scale + three(theirs.offset)) / three(theirs.std)])


def gray(image: np.ndarray) -> np.ndarray:
    """Return ITU-R 601 luma of an (H, W, 3) uint8 RGB image; (H, W) images as they are."""
    return image if image.ndim == 2 else np.asarray(Image.fromarray(image).convert("L"))


def resize_cv2(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear resize of uint8 images without antialiasing, as OpenCV's INTER_LINEAR does it (11-bit fixed-point weights).

    Two of the published systems resize this way; shrinking a 240 × 260 face to 112 it differs from Pillow's
    antialiased bilinear by 3 gray levels on average.
    """
    rows, row_weights = _cv2_axis(image.shape[0], height)
    columns, column_weights = _cv2_axis(image.shape[1], width)
    last_row, last_column = image.shape[0] - 1, image.shape[1] - 1
    # OpenCV drops the fraction of columns beyond the edge but only repeats the edge row: the rounding differs by one level.
    column_weights[(columns < 0) | (columns >= last_column)] = 0
    extra = (1,) * (image.ndim - 2)
    weight = column_weights.reshape(1, -1, *extra)
    wide = image.astype(np.int32)
    across = wide[:, columns.clip(0, last_column)] * (2048 - weight) + wide[:, (columns + 1).clip(0, last_column)] * weight
    upper, lower = across[rows.clip(0, last_row)], across[(rows + 1).clip(0, last_row)]
    weight = row_weights.reshape(-1, 1, *extra)
    total = (((2048 - weight) * (upper >> 4)) >> 16) + ((weight * (lower >> 4)) >> 16)
    return ((total + 2) >> 2).clip(0, 255).astype(np.uint8)


def _cv2_axis(old: int, new: int) -> tuple[np.ndarray, np.ndarray]:
    """Lower source index, not clipped, and 11-bit weight of the one above it, for each target index."""
    position = ((np.arange(new) + 0.5) * (old / new) - 0.5).astype(np.float32)
    lower = np.floor(position)
    return lower.astype(int), np.rint((position - lower) * 2048).astype(np.int32)
