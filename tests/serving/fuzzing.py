"""Corrupt images and requests, sent to a real server, which must answer each and keep running.

python tests/serving/fuzzing.py --files 10000
"""

from __future__ import annotations

import argparse
import collections
import io
import json
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
from PIL import Image

import mien

PER_REQUEST = 8


def seeds() -> list[bytes]:
    """The bundled photo, small, in every common form: progressive, animated, lossless, with EXIF, 16-bit, palette."""
    photo = Image.open(mien.sample()).convert("RGB").crop((120, 20, 360, 260)).resize((128, 128))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "description"
    gray = photo.convert("L")
    kinds = [
        (photo, "PNG", {}), (photo.convert("P"), "PNG", {"transparency": 0}), (photo.convert("RGBA"), "PNG", {}),
        (gray.convert("I;16"), "PNG", {}), (photo, "JPEG", {"quality": 80}), (photo, "JPEG", {"progressive": True}),
        (photo, "JPEG", {"exif": exif, "subsampling": 0}), (photo.convert("CMYK"), "JPEG", {}), (gray, "JPEG", {}),
        (photo, "GIF", {}), (photo, "GIF", {"save_all": True, "append_images": [gray.convert("RGB")]}),
        (photo, "WEBP", {"quality": 70}), (photo, "WEBP", {"lossless": True}),
        (photo, "WEBP", {"save_all": True, "append_images": [gray.convert("RGB")]}), (photo, "TIFF", {}), (photo, "BMP", {}),
    ]  # fmt: skip
    found = []
    for image, form, options in kinds:
        file = io.BytesIO()
        image.save(file, form, **options)
        found.append(file.getvalue())
    return found


def corrupted(data: bytes, rng: random.Random) -> bytes:
    """One file with one to six mutations: flipped bits, wild bytes, large lengths, cuts, repeats, swaps."""
    file = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        if not file:
            break
        place = rng.randrange(min(len(file), 400)) if rng.random() < 0.5 else rng.randrange(len(file))
        length = rng.choice((1, 2, 4, 16, 200))
        match rng.randrange(8):
            case 0:
                file[place] ^= 1 << rng.randrange(8)
            case 1:
                file[place : place + length] = rng.randbytes(length)
            case 2:
                file[place : place + 4] = rng.choice((b"\xff" * 4, b"\x7f\xff\xff\xff", bytes(4), b"\0\0\xff\xff"))
            case 3:
                del file[place:]
            case 4:
                del file[place : place + length]
            case 5:
                file[place:place] = file[place : place + length] * rng.choice((1, 3, 50))
            case 6:
                other = rng.randrange(len(file))
                file[place : place + length], file[other : other + length] = (
                    file[other : other + length],
                    file[place : place + length],
                )
            case 7:
                file[place:place] = rng.randbytes(length)
    return bytes(file)


def requests(count: int, seed: int) -> Iterator[tuple[int, bytes, str]]:
    """Number of files, body and content type of each request; one form in ten is corrupted itself."""
    rng, known, left = random.Random(seed), seeds(), count
    while left > 0:
        number = min(PER_REQUEST, left)
        left -= number
        boundary = f"{rng.getrandbits(64):016x}"
        body = b""
        for i in range(number):
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="images"; filename="{i}"\r\n\r\n'
            body += head.encode() + corrupted(rng.choice(known), rng) + b"\r\n"
        body += f"--{boundary}--\r\n".encode()
        yield number, corrupted(body, rng) if rng.random() < 0.1 else body, f"multipart/form-data; boundary={boundary}"


def run(client: httpx.Client, count: int, seed: int = 1) -> collections.Counter[str]:
    """Send corrupted files and count what became of them.

    Raises:
        AssertionError: an answer of 5xx, one that is no answer, or a server that then reads its own photo differently.
    """
    sample = {"images": mien.sample().read_bytes()}
    before = client.post("/v1/predict", files=sample).json()["results"]
    fates: collections.Counter[str] = collections.Counter()
    for number, body, kind in requests(count, seed):
        answer = client.post("/v1/predict", content=body, headers={"Content-Type": kind})
        assert answer.status_code < 500, (seed, answer.text)
        fates["files"] += number
        if answer.status_code == 200:
            results = answer.json()["results"]
            fates.update(result["status"] for result in results)
            assert all(result["status"] == "ok" or not result["faces"] for result in results)
            assert "Traceback" not in answer.text and "site-packages" not in answer.text
        else:
            fates[f"refused with {answer.status_code}"] += number
    assert client.post("/v1/predict", files=sample).json()["results"] == before
    return fates


def main() -> None:
    from server import running

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    started = time.monotonic()
    with running() as server, server.client() as client:
        fates = run(client, args.files, args.seed)
        peak = Path(f"/proc/{server.process.pid}/status").read_text().split("VmHWM:")[1].split()[0]
        print(
            json.dumps({**fates, "seconds": round(time.monotonic() - started), "peak_MB": int(peak) // 1024}), file=sys.stdout
        )


if __name__ == "__main__":
    main()
