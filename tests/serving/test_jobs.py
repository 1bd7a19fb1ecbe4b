"""Video jobs: the results of the Python API, progress, cancellation, and no files left behind."""

from __future__ import annotations

import io
import json
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import httpx
import jsonschema
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from prometheus_client.mmap_dict import MmapedDict
from server import running
from test_predict_requests import is_problem, same

from mien.inference.baseline import subtract
from mien.inference.recognizer import Recognizer
from mien.serving.app import create
from mien.serving.jobs import ACTIVE
from mien.serving.settings import Limits, Settings
from mien.types import json_schema
from waiting import until

CLIP = "data/video/london_crossfade_neutral_happy.mp4"


@pytest.fixture(scope="module")
def clip(shared: Path) -> Path:
    return shared / CLIP


def send(client: Any, video: bytes, name: str = "clip.mp4", **options: Any) -> httpx.Response:
    return client.post("/v1/predict/video", files={"video": (name, video)}, data={k: str(v) for k, v in options.items()})


def finished(client: Any, answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 202, answer.text
    seen = [0.0]

    def look() -> dict[str, Any] | None:
        job = client.get(answer.headers["location"]).json()
        seen.append(job["progress"] or seen[-1])
        return None if job["status"] in ACTIVE else job

    job = until(look)
    assert seen == sorted(seen)
    return job


def test_a_clip_is_read_as_by_the_api(client: httpx.Client, read: Recognizer, clip: Path) -> None:
    job = finished(client, send(client, clip.read_bytes(), "../../etc/clip.mp4", fps=5, end=2))
    assert (job["status"], job["progress"], job["name"], job["frames"], job["faces"]) == ("done", 1.0, "clip.mp4", 10, 10)
    document = client.get("/openapi.json").json()
    jsonschema.validate(job, document["components"]["schemas"]["JobState"])
    text = client.get(f"/v1/jobs/{job['id']}/results")
    assert text.headers["content-type"].startswith("application/jsonl")
    lines = [json.loads(line) for line in text.text.splitlines()]
    wanted = [result for _, result in read.stream(clip, fps=5, end=2)]
    for line, result in zip(lines, wanted, strict=True):
        same(line, result)
        assert line["time"] == result.time and line["source"] == "clip.mp4"
        jsonschema.validate(line, json_schema())
    rest = client.get(f"/v1/jobs/{job['id']}/results?after=7").text.splitlines()
    assert [json.loads(line) for line in rest] == lines[7:]
    assert client.delete(f"/v1/jobs/{job['id']}").status_code == 204
    assert client.get(f"/v1/jobs/{job['id']}").status_code == 404


@pytest.mark.parametrize("baseline", ["median", "first 1 s"])
def test_a_baseline_is_subtracted(client: httpx.Client, read: Recognizer, clip: Path, baseline: str) -> None:
    job = finished(client, send(client, clip.read_bytes(), fps=5, end=2, baseline=baseline, columns="units,landmarks68"))
    lines = client.get(f"/v1/jobs/{job['id']}/results").text.splitlines()
    results = (result for _, result in read.stream(clip, fps=5, end=2))
    wanted = list(subtract(results, baseline, read))
    assert len(lines) == len(wanted) == 10
    for line, result in zip(map(json.loads, lines), wanted, strict=True):
        [face], expected = line["faces"], result.faces[0]
        jsonschema.validate(line, json_schema())
        assert face["action_units_estimated"] == pytest.approx(dict(expected.action_units_estimated or {}), abs=1e-4)
        assert face["pose"] is face["gaze"] is face["blendshapes"] is None and len(face["points"]) == 68
        assert line["notes"] == list(result.notes)


@pytest.mark.parametrize("baseline", ["/etc/passwd", "first", "first -1 s", "first 9999999 s", "mean"])
def test_a_baseline_is_no_file(client: httpx.Client, clip: Path, baseline: str) -> None:
    """A name of a file, which the command accepts, would reveal what exists on the server."""
    answer = send(client, clip.read_bytes(), baseline=baseline)
    assert answer.status_code == 422 and is_problem(answer) is None


def test_faces_that_wait_for_a_baseline_are_limited(clip: Path) -> None:
    with TestClient(create(Settings(threads=1, limits=Limits(waiting_faces=3)))) as client:
        job = finished(client, send(client, clip.read_bytes(), baseline="median"))
        assert (job["status"], job["frames"]) == ("done", 3) and job["message"]
        assert len(client.get(f"/v1/jobs/{job['id']}/results").text.splitlines()) == 3


def test_an_animation_is_a_video(client: httpx.Client, sample: Path) -> None:
    photo, file = Image.open(sample).convert("RGB").resize((160, 160)), io.BytesIO()
    photo.save(file, "WEBP", save_all=True, append_images=[photo.rotate(3), photo.rotate(6)], duration=100)
    job = finished(client, send(client, file.getvalue(), "a.webp"))
    assert (job["status"], job["frames"], job["faces"]) == ("done", 3, 3)
    rows = client.get(f"/v1/jobs/{job['id']}/results").text.splitlines()
    assert [json.loads(row)["time"] for row in rows] == pytest.approx([0, 0.1, 0.2])


def test_a_raw_video(client: httpx.Client, clip: Path) -> None:
    """Options are in the query."""
    headers = {"Content-Type": "video/mp4"}
    job = finished(client, client.post("/v1/predict/video?fps=2&end=1", content=clip.read_bytes(), headers=headers))
    assert (job["status"], job["frames"]) == ("done", 2)


def test_options_that_contradict(client: httpx.Client, clip: Path) -> None:
    for options in ({"every": 2, "fps": 5}, {"start": 3, "end": 2}, {"every": 0}, {"smooth": "much"}, {"model": "x"}):
        answer = send(client, clip.read_bytes(), **options)
        assert answer.status_code == 422
        is_problem(answer)


@pytest.mark.parametrize(
    "data", [b"", b"nonsense" * 100, b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", b"ffconcat version 1.0\nfile /etc/passwd\n"]
)
def test_uploads_that_are_not_videos(client: httpx.Client, data: bytes) -> None:
    """Among them playlists and concat scripts, which name other files."""
    job = finished(client, send(client, data))
    assert job["status"] == "failed" and job["message"]
    assert "mien-serving" not in json.dumps(job) and "/tmp" not in json.dumps(job)


def test_a_cut_clip_ends_with_what_was_read(client: httpx.Client, clip: Path, tmp_path: Path) -> None:
    """The last result says why, and names the video as its sender did."""
    with av.open(str(clip)) as read, av.open(str(tmp_path / "clip.mkv"), "w") as written:
        made = written.add_stream_from_template(read.streams.video[0])
        for packet in read.demux(video=0):
            if packet.dts is not None:
                packet.stream = made
                written.mux(packet)
    data = (tmp_path / "clip.mkv").read_bytes()
    job = finished(client, send(client, data[: len(data) // 3], name="mine.mkv", fps=2))
    lines = [json.loads(line) for line in client.get(f"/v1/jobs/{job['id']}/results").text.splitlines()]
    assert [line["status"] for line in lines[-2:]] == ["ok", "unreadable"] and len(lines) > 3
    assert "mine.mkv" in lines[-1]["message"] and "mine.mkv" in job["message"]
    assert "mien-serving" not in json.dumps([job, lines])


def test_other_bodies_are_problems(client: httpx.Client) -> None:
    assert client.post("/v1/predict/video", json={}).status_code == 415
    for query in ("every=0", "evry=1"):
        answer = client.post(f"/v1/predict/video?{query}", content=b"", headers={"Content-Type": "video/mp4"})
        assert answer.status_code == 422
    assert client.post("/v1/predict/video", files={"a": ("a", b"")}, data={"evry": "1"}).status_code == 422
    answer = client.post("/v1/predict/video", files=[("a", ("a", b"")), ("b", ("b", b""))])
    assert answer.status_code == 413
    is_problem(answer)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield tmp_path


def test_canceled_expired_and_cleaned(temporary: Path, clip: Path) -> None:
    settings = Settings(limits=Limits(keep_seconds=3600, kept=1, jobs=2))
    with TestClient(create(settings)) as client:
        jobs = client.app.state.jobs  # pyrefly: ignore
        data = clip.read_bytes()
        first, second, third = (send(client, data) for _ in range(3))
        assert third.status_code == 429 and "retry-after" in third.headers
        until(lambda: client.get(first.headers["location"]).json()["frames"])
        for answer in (first, second):
            assert client.delete(answer.headers["location"]).status_code == 202
        one, two = finished(client, first), finished(client, second)
        assert one["status"] == two["status"] == "canceled" and 0 < one["frames"] < 240 and two["frames"] <= 1
        assert len(client.get(first.headers["location"] + "/results").text.splitlines()) == one["frames"]
        names = [path.name for path in temporary.rglob("*")]
        assert "clip.mp4" not in names and "video" not in names
        jobs.tidy()
        assert client.get(first.headers["location"]).status_code == 404  # one is kept
        assert client.get(second.headers["location"]).status_code == 200
        send(client, data)  # is being read when the server ends
    assert list(temporary.iterdir()) == []


def test_a_refused_upload_leaves_nothing(temporary: Path) -> None:
    with TestClient(create(Settings(limits=Limits(video_bytes=100_000)))) as client:
        assert send(client, bytes(200_000)).status_code == 413
        assert send(client, bytes(2_000_000)).status_code == 413
        assert client.post("/v1/predict/video", files={"video": b"x" * 10}, data={"every": "x"}).status_code == 422
        assert [path.name for path in temporary.rglob("*") if not path.name.startswith("metrics")] == [
            path.name for path in temporary.iterdir()
        ]


def test_frames_are_limited(clip: Path) -> None:
    with TestClient(create(Settings(limits=Limits(video_frames=3)))) as client:
        job = finished(client, send(client, clip.read_bytes()))
        assert job["status"] == "done" and job["frames"] == 3 and "3 frames" in job["message"]


@pytest.mark.slow
def test_any_process_of_several_answers_for_a_job(clip: Path, tmp_path: Path) -> None:
    """Each request has a connection of its own, which either process may accept; their counters show who answered."""
    jobs: list[httpx.Response] = []

    with running("--workers", 2, TMPDIR=str(tmp_path)) as server:

        def ask(path: str) -> httpx.Response:
            with server.client() as client:
                return client.get(path)

        def look() -> bool:
            jobs.append(ask(answer.headers["location"]))
            return jobs[-1].json()["status"] == "done" and len(answered(tmp_path)) == 2

        with server.client() as client:
            answer = send(client, clip.read_bytes(), every=24)
            assert answer.status_code == 202
        assert until(look) and {job.status_code for job in jobs} == {200}
        assert sum(answered(tmp_path).values()) == len(jobs)
        counted = [line for line in ask("/metrics").text.splitlines() if line.startswith("mien_jobs_total{")]
        assert counted == ['mien_jobs_total{outcome="done"} 1.0']
        results = {ask(answer.headers["location"] + "/results").text for _ in range(4)}
        assert [len(text.splitlines()) for text in results] == [10]
        assert server.stop() == 0


@pytest.mark.slow
def test_the_death_of_a_worker_keeps_the_jobs_of_others(clip: Path, tmp_path: Path) -> None:
    """The job that it ran has failed, with the reason; its waiting job and those of the other process are completed."""
    with running("--workers", 2, TMPDIR=str(tmp_path)) as server:

        def state(job: httpx.Response) -> dict[str, Any]:
            with server.client() as client:
                return client.get(job.headers["location"]).json()

        def owner(job: httpx.Response) -> int:
            [path] = tmp_path.glob(f"mien-serving-*/{job.json()['id']}/state.json")
            return json.loads(path.read_text())["process"]

        jobs = []
        for _ in range(3):
            with server.client() as client:
                jobs.append(send(client, clip.read_bytes()))
            until(lambda: state(jobs[-1])["status"] == "running" or len({owner(job) for job in jobs}) < len(jobs))
        dying = next(owner(job) for job in jobs if [owner(other) for other in jobs].count(owner(job)) > 1)
        mine, others = [job for job in jobs if owner(job) == dying], [job for job in jobs if owner(job) != dying]
        until(lambda: state(mine[0])["frames"] > 3)
        os.kill(dying, signal.SIGKILL)
        ended = [until(lambda job=job: (found := state(job))["status"] not in ACTIVE and found) for job in jobs]
        assert [found["status"] for found in ended if found["id"] == mine[0].json()["id"]] == ["failed"]
        assert all(found["status"] == "done" for found in ended if found["id"] != mine[0].json()["id"]), (ended, others)


def answered(folder: Path) -> dict[int, float]:
    """Process of a server → number of its answers about a job's state, from its metrics file."""
    found = {}
    for path in folder.glob("mien-serving-*/counter_*.db"):
        for key, value, *_ in MmapedDict.read_all_values_from_file(str(path)):
            _, name, labels, _ = json.loads(key)
            if name == "mien_requests_total" and labels["route"] == "/v1/jobs/{job}":
                found[int(path.stem.partition("_")[2])] = value
    return found
