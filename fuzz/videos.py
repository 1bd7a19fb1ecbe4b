"""Video files of every container that is opened."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator

import av
import numpy as np
from PIL import Image

import mien
from mien.io.sources import Clip
from mien.io.video import Sampling

MAX_PIXELS = 1 << 16
FRAMES = 12
"""Of one input: a few bytes may promise frames without end."""

CONTAINERS = (
    ("mp4", "mpeg4"), ("mov", "mjpeg"), ("matroska", "mpeg4"), ("webm", "libvpx"), ("avi", "mjpeg"), ("mpegts", "mpeg2video"),
    ("mpeg", "mpeg1video"), ("flv", "flv"), ("ogg", "libtheora"), ("asf", "msmpeg4v2"), ("gif", "gif"), ("nut", "mpeg4"),
    ("m4v", "mpeg4"), ("ivf", "libvpx"), ("mxf", "mpeg2video"), ("h264", "libx264"),
)  # fmt: skip


def target(data: bytes) -> None:
    """Read the first frames of a video, as a file that somebody names."""
    last = 0.0
    for frame in itertools.islice(Clip(data, Sampling(), {"max_pixels": MAX_PIXELS}), FRAMES):
        if frame.image is not None:
            pixels, time = frame.image.pixels, frame.time
            assert pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.dtype == "uint8"
            assert pixels.shape[0] * pixels.shape[1] <= MAX_PIXELS
            assert time is not None and np.isfinite(time) and time >= last, (last, time)
            last = time
        elif frame.error is not None:
            raise frame.error


def seeds() -> Iterator[bytes]:
    """Yield four small frames of the bundled photo in every container that this FFmpeg writes."""
    face = Image.open(mien.sample()).convert("RGB").crop((160, 40, 280, 200)).resize((48, 64))
    for form, codec in CONTAINERS:
        file = io.BytesIO()
        try:
            with av.open(file, "w", format=form) as video:
                stream = video.add_stream(codec, rate=25)
                stream.width, stream.height = face.size
                stream.pix_fmt = stream.codec_context.codec.video_formats[0].name
                for step in range(4):
                    turned = face.rotate(4 * step)
                    video.mux(stream.encode(av.VideoFrame.from_image(turned)))
                video.mux(stream.encode())
        except (av.error.FFmpegError, ValueError, OSError):  # an FFmpeg built without this encoder, or that wants to seek
            continue
        yield file.getvalue()
