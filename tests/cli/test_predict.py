"""`mien predict` on real images: what goes to which stream and file, and what happens when something is wrong."""

from __future__ import annotations

import csv
import http.server
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from command import environment, line, on_terminal
from command import mien as run_mien
from PIL import Image, ImageOps

import mien
from mien.cli import ABANDONED, NETWORKS, main
from mien.faces.detection import DETECTORS
from mien.io.decoding import TRUNCATED

EIGHTHS = "█▏▎▍▌▋▊▉"


@pytest.fixture(scope="session")
def album(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two faces in two images, one image without, and one file that is no image."""
    folder = tmp_path_factory.mktemp("album")
    (folder / "deep").mkdir()
    shutil.copy(sample, folder / "a face.png")
    Image.new("RGB", (200, 150), (90, 120, 90)).save(folder / "lawn.png")
    (folder / "note.jpg").write_text("buy milk")
    with Image.open(sample) as image:
        ImageOps.mirror(image.convert("RGB")).save(folder / "deep" / "mirrored.jpg", quality=95)
    return folder


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(one) for one in text.splitlines()]


def test_a_folder_in_a_pipe(album: Path, tmp_path: Path) -> None:
    """All outputs of one run agree with one another and with the same reading from Python."""
    table, rows, drawn = tmp_path / "faces.csv", tmp_path / "faces.jsonl", tmp_path / "drawn"
    run = run_mien("predict", album, "--csv", table, "--jsonl", rows, "--save", drawn)
    assert run.returncode == 1  # for the file that is no image
    results = lines_of(run.stdout)
    names = ["a face.png", "lawn.png", "note.jpg", "deep/mirrored.jpg"]
    assert [Path(each["source"]).relative_to(album).as_posix() for each in results] == names
    assert [each["status"] for each in results] == ["ok", "no face", "unreadable", "ok"]
    for shown, wanted in zip(results, mien.load().many(album), strict=True):
        again = wanted.to_dict()
        for one, other in zip(shown.pop("faces"), again.pop("faces"), strict=True):
            assert one["scores"] == pytest.approx(other["scores"], abs=1e-5) and one["label"] == other["label"]
        assert shown == again

    assert rows.read_text(encoding="utf-8") == run.stdout
    with table.open(newline="", encoding="utf-8") as file:
        assert [Path(row["source"]).name for row in csv.DictReader(file)] == [Path(name).name for name in names]
    saved = {path.relative_to(drawn).as_posix() for path in drawn.rglob("*") if path.is_file()}
    assert saved == {"a face.png", "lawn.png", "deep/mirrored.jpg"}

    told = run.stderr.splitlines()
    assert told[0].startswith("failed: ") and "note.jpg" in told[0]
    assert re.fullmatch(r"4 images, 2 faces, 1 without a face, 1 failed in \d+\.\d s", told[1])
    assert told[2:] == [f"wrote {table}, {rows}, {drawn}"]


def test_one_face_on_a_terminal(sample: Path) -> None:
    run = on_terminal("predict", sample)
    assert run.returncode == 0
    shown = re.sub(r"\x1b\[[\d;]*m", "", run.stdout).rstrip().splitlines()
    head = "image face box expression confidence runner-up certain pitch yaw roll gaze"
    assert shown[0].split() == head.split()
    face = mien.load()(sample).faces[0]
    second = sorted(face.scores, key=lambda name: -face.scores[name])[1]
    row = " ".join(shown[1:3])  # the name may be folded
    for cell in (
        str(face.box),
        f"■ {face.label}",
        f"{face.confidence:.1%}",
        f"{second} {face.scores[second]:.1%}",
        "yes" if face.certain else "no",
    ):
        assert cell in row
    bars = [one.split() for one in shown[-len(face.scores) :]]
    assert [(bar[0], bar[-1]) for bar in bars] == [(name, f"{share:.1%}") for name, share in face.scores.items()]
    lengths = {bar[0]: len(bar[1]) if len(bar) == 3 else 0 for bar in bars}
    assert max(lengths, key=lambda name: lengths[name]) == face.label and lengths[face.label] > 2 * lengths[second]
    assert set("".join(bar[1] for bar in bars if len(bar) == 3)) <= set(EIGHTHS)
    assert re.search(r"\x1b\[38;", run.stdout)  # in color
    assert re.fullmatch(r"1 image, 1 face in \d+\.\d s\n", run.stderr)


def test_each_face_has_one_line_of_a_narrow_terminal(sample: Path, tmp_path: Path) -> None:
    (long := tmp_path / "a folder with a long name" / "photo of someone.png").parent.mkdir()
    shutil.copy(sample, long)
    run = on_terminal("predict", long, long, env={"NO_COLOR": "1"}, columns=80)
    head, *rows = [line for line in re.sub(r"\x1b\[[\d;]*m", "", run.stdout).splitlines() if line]
    assert head.split() == ["image", "face", "box", "expression", "confidence", "certain"] and len(rows) == 2
    face = mien.load()(sample).faces[0]
    for row in rows:
        assert len(row) <= 80 and row.split("  ")[0].endswith(long.name)
        assert str(face.box) in row and face.label in row and f"{face.confidence:.1%}" in row and "…" not in row[30:]


def test_many_images_on_a_terminal_without_color(album: Path) -> None:
    run = on_terminal("predict", album, env={"NO_COLOR": "1"})
    assert run.returncode == 1
    assert not re.search(r"\x1b\[[\d;]*3\d", run.stdout)  # bold and dim may stay, colors may not
    shown = re.sub(r"\x1b\[[\d;]*m", "", run.stdout)
    assert shown.count("happiness") >= 2 and "no face found" in shown and "note.jpg" not in shown
    assert not set(EIGHTHS) & set(shown)
    assert "failed: " in run.stderr


def test_json_on_a_terminal(sample: Path) -> None:
    run = on_terminal("predict", sample, "--json")
    assert run.returncode == 0 and lines_of(run.stdout)[0]["faces"][0]["label"] == "happiness"


def read(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[dict[str, Any]]:
    """Run in this process and return what stands on stdout."""
    assert main(["predict", *map(str, arguments)]) == 0
    return lines_of(capsys.readouterr().out)


def test_points_and_blendshapes_follow_the_options(sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for points, count in (("5", 5), ("68", 68), ("all", 478)):
        (face,) = read(capsys, sample, "--points", points)[0]["faces"]
        assert len(face["points"]) == count and len(face["blendshapes"]) == 52
    (face,) = read(capsys, sample, "--points", "none", "--no-blendshapes")[0]["faces"]
    assert face["points"] is None and face["blendshapes"] is None and face["label"] == "happiness"


def test_options_reach_the_detector(sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (whole,) = read(capsys, sample, "--detector", "whole")[0]["faces"]
    assert whole["box"] == {"left": 0, "top": 0, "right": 512, "bottom": 512}
    assert read(capsys, sample, "--min-size", "400")[0]["status"] == "no face"
    assert read(capsys, sample, "--threshold", "0.9999")[0]["status"] == "no face"


def test_options_reach_the_crowd(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    crowd = shared / "data" / "photos" / "solvay_conference_1927.jpg"
    assert len(read(capsys, crowd, "--max-faces", 3)[0]["faces"]) == 3
    assert len(read(capsys, crowd, "--detector", "retinaface", "--small-faces", "--threads", 2)[0]["faces"]) >= 27


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["SAMPLE", "--model", "mien-bas"], "'mien-base'"),
        (["SAMPLE", "--detector", "blazefaces"], "'blazeface'"),
        (["SAMPLE", "--max-roll", "500"], "500"),
        (["SAMPLE", "--csv", "FOLDER"], "FOLDER"),
        (["SAMPLE", "--save", "SAMPLE"], "SAMPLE"),
        (["SAMPLE", "--csv", "SAMPLE"], "SAMPLE"),
        (["SAMPLE", "--overwrite", "--jsonl", "SAMPLE"], "SAMPLE"),
        (["FOLDER"], "FOLDER"),
        (["@FOLDER/missing.txt"], "missing.txt"),
    ],
)
def test_an_error_is_one_line(
    arguments: list[str], named: str, sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"SAMPLE": str(sample), "FOLDER": str(tmp_path)}
    assert main(["predict", *(places.get(each, each) for each in arguments)]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("mien: ") and places.get(named, named) in err and err.count("\n") == 1


def test_standard_input_and_lists(sample: Path, tmp_path: Path) -> None:
    done = subprocess.run(line("predict", "-"), input=sample.read_bytes(), capture_output=True, env=environment())
    (result,) = lines_of(done.stdout.decode())
    assert result["source"] == "<stdin>" and result["faces"][0]["label"] == "happiness"
    copy = tmp_path / "häppy photo.png"
    shutil.copy(sample, copy)
    (tmp_path / "list.txt").write_bytes(f"{sample}\r\n\n{copy}\n".encode())
    for arguments, given in ((["@-"], (tmp_path / "list.txt").read_bytes()), ([f"@{tmp_path / 'list.txt'}"], b"")):
        done = subprocess.run(line("predict", *arguments), input=given, capture_output=True, env=environment())
        assert [result["source"] for result in lines_of(done.stdout.decode())] == [str(sample), str(copy)]


def test_two_outputs_need_two_files(sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "both.txt"
    assert main(["predict", str(sample), "--csv", str(path), "--jsonl", str(tmp_path / "." / "both.txt")]) == 1
    assert str(path) in capsys.readouterr().err and not path.exists()


def test_limits_are_flags_and_messages_name_them(sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(sample), "--max-pixels", "1000"]) == 1
    assert "--max-pixels" in capsys.readouterr().err
    assert main(["predict", "http://127.0.0.1:1/face.jpg"]) == 1
    assert "--allow-private" in capsys.readouterr().err
    assert "allow_private" not in capsys.readouterr().err


def test_truncated_images_are_read_on_request(sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "half.jpg"
    Image.open(sample).convert("RGB").save(path, quality=95)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 7 // 10])
    assert main(["predict", str(path)]) == 1
    capsys.readouterr()
    (result,) = read(capsys, path, "--truncated")
    assert result["faces"][0]["label"] == "happiness" and TRUNCATED in result["notes"]


def test_images_that_cannot_be_read_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "missing.jpg", "https://[nowhere", "x" * 5000]) == 1
    out, err = capsys.readouterr()
    results = lines_of(out)
    assert [each["status"] for each in results] == ["unreadable"] * 3 and "missing.jpg does not exist" in results[0]["message"]
    *told, summary = err.splitlines()
    assert told == [f"failed: {each['message']}" for each in results]
    assert summary.startswith("3 images, 0 faces, 3 failed in ")


def test_what_was_annotated_is_not_read_again(album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "album"
    shutil.copytree(album, folder, ignore=shutil.ignore_patterns("note.jpg"))
    for _ in range(2):
        assert main(["predict", str(folder), "--save", str(folder / "deep" / "drawn")]) == 0
        out, err = capsys.readouterr()
        results = lines_of(out)
        assert err.startswith("3 images, 2 faces, 1 without a face in ")
        assert [Path(each["source"]).name for each in results] == ["a face.png", "lawn.png", "mirrored.jpg"]
    assert sorted(path.name for path in (folder / "deep" / "drawn").rglob("*.*")) == ["a face.png", "lawn.png", "mirrored.jpg"]


@pytest.fixture
def site(album: Path) -> Iterator[str]:
    """The album on a web server of this machine."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(album)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_urls_of_this_machine_need_permission(site: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"{site}/a%20face.png?size=1"
    assert main(["predict", url]) == 1
    assert "failed: " in capsys.readouterr().err
    (result,) = read(capsys, url, "--allow-private", "--save", tmp_path)
    assert result["source"] == url and result["faces"][0]["label"] == "happiness"
    assert [path.name for path in tmp_path.iterdir()] == ["a_face.png"]


def _endless(sample: Path, folder: Path) -> Path:
    """More images than a test could read, by links to one."""
    for number in range(3000):
        (folder / f"{number}.png").hardlink_to(sample)
    return folder


@pytest.mark.skipif(sys.platform == "win32", reason="sends a POSIX signal")
def test_an_interrupted_run_keeps_its_rows(sample: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    copy = Path(shutil.copy(sample, tmp_path / "copy.png"))
    folder, rows = _endless(copy, tmp_path / "images"), tmp_path / "faces.jsonl"
    process = subprocess.Popen(
        line("predict", folder, "--jsonl", rows, "--no-blendshapes"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a suite in the background inherits "ignored"
    )
    assert process.stdout is not None and process.stderr is not None
    first = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    with process.stdout, process.stderr:
        out, errors = process.stdout.read(), process.stderr.read()
    assert process.wait() == 130 and errors.splitlines()[-1] == b"mien: interrupted" and b"faces.jsonl.part" in errors
    kept = (tmp_path / "faces.jsonl.part").read_bytes().splitlines()
    assert not rows.exists() and 1 <= len(kept) < 3000
    assert json.loads(kept[0]) == json.loads(first)
    assert abs(len(kept) - 1 - len(out.splitlines())) <= 1 and all(json.loads(each) for each in kept)


@pytest.mark.skipif(sys.platform == "win32", reason="closes a POSIX pipe")
def test_a_reader_may_leave_early(sample: Path, tmp_path: Path) -> None:
    """As in `mien predict folder | head -1`."""
    (tmp_path / "images").mkdir()
    folder = _endless(Path(shutil.copy(sample, tmp_path / "copy.png")), tmp_path / "images")
    process = subprocess.Popen(
        line("predict", folder, "--no-blendshapes"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    )
    assert process.stdout is not None and process.stderr is not None
    assert json.loads(process.stdout.readline())["status"] == "ok"
    process.stdout.close()
    with process.stderr:
        errors = process.stderr.read()
    assert (process.wait(), errors) == (ABANDONED, b"")


def test_help_names_every_detector(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    named = re.search(r"Face detector: (.*?) if each", shown)
    assert named and set(re.findall(r"[a-z-]+", named[1])) == set(DETECTORS)


COLD = """
import sys
from mien import cli
from mien.runtime import onnx

opened, real = [], onnx._session
onnx._session = lambda model, *rest: opened.append(str(model).rpartition("/")[2]) or real(model, *rest)
status = cli.main()
print(status, len(onnx._EARLY), *opened, file=sys.stderr)
"""


@pytest.mark.parametrize("flags", [[], ["--threads", "1"]])
def test_each_network_is_opened_once(sample: Path, flags: list[str]) -> None:
    """Those that are opened beside the imports are those that the pipeline then takes."""
    command = [sys.executable, "-c", COLD, "predict", sample, *flags]
    run = subprocess.run(command, capture_output=True, text=True, env=environment())
    status, waiting, *opened = run.stderr.splitlines()[-1].split()
    assert (status, waiting) == ("0", "0"), run.stderr
    assert sorted(opened) == sorted(NETWORKS)
