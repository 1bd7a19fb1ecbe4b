"""Detection of arrays in BGR order, as OpenCV's `imread` returns them, where RGB is expected.

Swapped channels raise no error and only lower accuracy. Skin reveals the order: under any usual light it is warm (red > green >
blue), and in the wrong order it is blue, a color that skin does not have.

* `looks_bgr` inspects a whole image without knowing the face. A blue sky in the wrong order has the color of skin too, so it
  reports only images like portraits: a skin-colored region of moderate saturation that leaves the top and upper sides of the
  image free, and almost no skin in the given order.
* `face_looks_bgr` inspects the crop of a detected face and is almost always right.

Measured (false alarms on RGB images; detections on the same images as BGR):

    looks_bgr        London portraits, even gray wall                  0 / 204    203 / 204
                     15 other portraits and group photographs          0 / 15       1 / 15
                     260 desktop wallpapers, most without people       0 / 260      1 / 260
    face_looks_bgr   faces found in the London portraits               0 / 204    204 / 204
                     faces found in the 15 others, one of them sepia   0 / 39      17 / 21
"""

import numpy as np
from numpy.typing import NDArray

LIKELY_BGR = "this array looks like BGR, as cv2.imread gives it; mien reads RGB: pass array[..., ::-1]"
"""Text of the note and the warning."""

SAMPLES = 16_384  # number of pixels that are inspected


def looks_bgr(pixels: NDArray[np.uint8]) -> bool:
    """Return whether an image (H, W, 3) uint8 that should be RGB is probably BGR; False in doubt."""
    thin = _thin(pixels)
    as_given, swapped = _skin(thin), _skin(thin[..., ::-1])
    share = swapped.mean()
    if share < 0.05 or as_given.mean() > 0.05 * share:
        return False
    height, width = swapped.shape
    top = swapped[: max(1, height // 20)]
    edge = max(1, width // 20)
    sides = swapped[: max(1, height // 2), np.r_[:edge, width - edge : width]]
    if max(top.mean(), sides.mean()) > 0.1:
        return False  # Sky or a backdrop.
    skin = thin[swapped]
    brightest = skin.max(axis=-1)
    return float(((brightest - skin.min(axis=-1)) / brightest).mean()) < 0.45


def face_looks_bgr(crop: NDArray[np.uint8]) -> bool:
    """Return whether the bounding box of a face (H, W, 3) uint8, brow to chin, that should be RGB is probably BGR."""
    height, width = crop.shape[:2]
    thin = _thin(crop[height // 5 : height - height // 10, width // 5 : width - width // 5])
    if not thin.size:
        return False
    red, green, blue = np.moveaxis(thin, -1, 0)
    cold = ((blue > green) & (green > red)).mean()
    warm = ((red > green) & (green > blue)).mean()
    return bool(cold > 0.5 and warm < 0.1 and np.median(blue - red) > 8)


def _thin(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    step = max(1, int((pixels.shape[0] * pixels.shape[1] / SAMPLES) ** 0.5))
    return pixels[::step, ::step].astype(np.float32)


def _skin(rgb: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return the pixels with the chroma of skin: a range in the Cb-Cr plane, common in the literature, for all complexions."""
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    cb, cr = (blue - luma) * 0.564 + 128, (red - luma) * 0.713 + 128
    return (luma > 40) & (cb > 80) & (cb < 124) & (cr > 136) & (cr < 172) & (red > green) & (green > blue)
