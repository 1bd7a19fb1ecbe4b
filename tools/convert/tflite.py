"""TFLite → ONNX for MediaPipe's face networks.

    from tools.convert.tflite import convert
    onnx.save(convert(data), "out.onnx")        # data: the bytes of a .tflite file

Float weights only (float32 or float16). Networks over images run channels first inside and keep channels-last inputs; networks
over vectors keep every layout. Both take any batch size. The graph is written in one order with one scheme of names, so the
same source gives the same bytes.
"""

from __future__ import annotations

import onnx

from . import convolutional, mixer
from .flatbuffer import Network


def convert(data: bytes) -> onnx.ModelProto:
    """Return the ONNX model of a TFLite file's content.

    Raises:
        KeyError: an operator that neither converter knows (custom ones among them).
        NotImplementedError: sparse weights, or an option that none of the files converted here use.
    """
    network = Network(data)
    images = len(network.shape(network.inputs[0])) == 4
    return convolutional.convert(network) if images else mixer.convert(network)
