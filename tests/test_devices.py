"""Devices: the words, what onnxruntime is asked for, and that a device which is not there is refused in words that help.

Nothing here needs a GPU. What the installed onnxruntime was really built with is asked of it; what others were built with is
given to the pure function `providers` as lists.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from command import environment
from command import mien as run_mien

import mien
from mien.cards import bundled_file
from mien.cli.flags import NO_FLAGS
from mien.errors import ConfigError, WeightsError
from mien.evaluation.compare import compare
from mien.evaluation.embeddings import embed
from mien.evaluation.verify import verify
from mien.io.images import read_image
from mien.runtime import devices
from mien.runtime.devices import AUTO, CPU, Device, choice, use
from mien.runtime.onnx import ACCELERATORS, OnnxRuntime, bytes_overflow, find_best, present, providers, started
from mien.runtime.open_model import open_model

AVAILABLE = onnxruntime.get_available_providers()
WITH_CUDA = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
WITH_COREML = ["CoreMLExecutionProvider", "AzureExecutionProvider", "CPUExecutionProvider"]

no_cuda = pytest.mark.skipif("CUDAExecutionProvider" in AVAILABLE, reason="this onnxruntime was built for CUDA")
no_coreml = pytest.mark.skipif("CoreMLExecutionProvider" in AVAILABLE, reason="this onnxruntime was built for Core ML")


@pytest.mark.parametrize(("word", "device", "text"), [
    ("auto", AUTO, "auto"), ("cpu", CPU, "cpu"), ("mps", Device("mps"), "mps"), ("cuda", Device("cuda", 0), "cuda:0"),
    ("cuda:0", Device("cuda", 0), "cuda:0"), ("cuda:12", Device("cuda", 12), "cuda:12"),
])  # fmt: skip
def test_words(word: str, device: Device, text: str) -> None:
    assert Device.parse(word) == device == Device.parse(str(device))
    assert str(device) == text and Device.parse(device) is device


@pytest.mark.parametrize(("word", "named"), [
    ("gpu", "'cuda'"), ("CUDA", "'cuda'"), ("metal", "'mps'"), ("tpu", "auto, cpu"), ("", "auto, cpu"), ("cuda:-1", "cuda:1"),
    ("cuda:", "cuda:1"), ("cuda:one", "cuda:1"), ("cuda:1.5", "cuda:1"), ("cuda:²", "cuda:1"), ("cuda:0,1", "cuda:1"),
    ("cpu:0", "use cpu"), ("auto:1", "use auto"), ("mps:0", "use mps"),
])  # fmt: skip
def test_invalid_devices_are_refused(word: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named) as error:
        Device.parse(word)
    assert error.value.value == word
    with pytest.raises(ConfigError, match=named):
        mien.load(device=word)


def test_the_choice_holds_inside_and_no_longer() -> None:
    assert choice() == CPU
    with use("cuda:1"):
        assert choice() == Device("cuda", 1)
        with use(None):
            assert choice() == Device("cuda", 1)
        with use("auto"):
            assert choice() == AUTO
        with pytest.raises(ConfigError), use("gpu"):
            pass
        assert choice() == Device("cuda", 1)
        seen: list[Device] = []
        thread = threading.Thread(target=lambda: seen.append(choice()))
        thread.start()
        thread.join()
        assert seen == [CPU]  # as the module says: whoever opens networks in a thread chooses there
    with pytest.raises(ZeroDivisionError), use("mps"):
        _ = 1 / 0
    assert choice() == CPU


def test_session_options_of_onnxruntime() -> None:
    """The device first, with its number; the CPU last, for what it cannot do; on the CPU nothing else."""
    assert providers(CPU, WITH_CUDA) == [("CPUExecutionProvider", {})]
    for index in (0, 3):
        (name, options), last = providers(Device("cuda", index), WITH_CUDA)
        assert name == "CUDAExecutionProvider" and options["device_id"] == str(index) and options["use_tf32"] == "0"
        assert last == ("CPUExecutionProvider", {})
    (name, options), last = providers(Device("mps"), WITH_COREML)
    assert name == "CoreMLExecutionProvider" and "device_id" not in options and last == ("CPUExecutionProvider", {})
    assert "device_id" not in ACCELERATORS["cuda"].options  # the table itself is not written into


@pytest.mark.parametrize(("word", "available", "missing", "package"), [
    ("cuda", WITH_COREML, "CUDAExecutionProvider", "onnxruntime-gpu"), ("mps", WITH_CUDA, "CoreMLExecutionProvider", "macOS"),
])  # fmt: skip
def test_what_onnxruntime_was_not_built_for(word: str, available: list[str], missing: str, package: str) -> None:
    with pytest.raises(ConfigError) as error:
        providers(Device.parse(word), available)
    for part in (
        missing,
        onnxruntime.__version__,
        ", ".join(available),
        f"pip install {package}"[:11],
        package,
        "device cpu",
    ):
        assert part in str(error.value)


@no_cuda
def test_this_onnxruntime_without_cuda_says_so(sample: Path) -> None:
    for device in ("cuda", "cuda:1"):
        for attempt in (
            lambda device=device: mien.load(device=device),
            lambda device=device: mien.explain("mien-base", sample, device=device),
        ):
            with pytest.raises(ConfigError, match="onnxruntime-gpu") as error:
                attempt()
            assert all(name in str(error.value) for name in AVAILABLE) and repr(str(Device.parse(device))) in str(error.value)
    with use("cuda"), pytest.raises(ConfigError, match="CUDAExecutionProvider"):
        OnnxRuntime(bundled_file("blendshapes.onnx"))


@no_cuda
def test_whatever_opens_networks_takes_the_device(tmp_path: Path) -> None:
    data = mien.open_dataset("synthetic", tmp_path, "train", number="8")
    options = {"faces": "whole", "device": "cuda"}
    for attempt in (
        lambda: mien.evaluate("mien-base", data, out=tmp_path / "out", page=False, **options),
        lambda: compare(["mien-base"], {"drawn": data}, out=tmp_path / "out", **options),
        lambda: verify("mien-base", data, out=tmp_path / "out", claims={"accuracy": 0.5}, **options),
        lambda: embed("mien-base", data, **options),
    ):
        with pytest.raises(ConfigError) as caught:
            attempt()
        assert caught.value.value == "cuda:0"
    assert not (tmp_path / "out").exists()


@no_cuda
def test_a_server_opens_networks_on_its_device_in_whichever_thread() -> None:
    pytest.importorskip("fastapi", reason="serving needs mien[serve]")
    from mien.serving.readers import Readers
    from mien.serving.schemas import Options
    from mien.serving.settings import Settings

    with pytest.raises(ConfigError, match="'cuda'"):
        Settings(device="gpu")
    with pytest.raises(ConfigError, match="CUDAExecutionProvider"):
        Readers(Settings(device="cuda"))
    readers = Readers(Settings())
    assert Settings.from_json(Settings(device="cuda:1").to_json()).device == "cuda:1"
    readers.settings = Settings(device="cuda")  # what is opened from now on
    with ThreadPoolExecutor(1) as pool, pytest.raises(ConfigError, match="CUDAExecutionProvider"):
        pool.submit(readers, readers.key(Options(model="mien-nano"))).result()


@no_cuda
@no_coreml
def test_auto_is_the_cpu_where_nothing_better_is() -> None:
    assert find_best() == (CPU, ()) and present(AUTO) == CPU
    _, runtime = open_model("mien-base")
    assert runtime.device == CPU
    read = mien.load(device="auto")
    assert str(read.runtime.device) == "cpu"  # pyrefly: ignore


@no_cuda
def test_a_device_that_is_built_in_but_does_not_start() -> None:
    """`auto` goes on without it and says why; asked for by name it is an error.

    onnxruntime opens the session on the CPU where it cannot start what it is asked for, as without CUDA's libraries. Here it
    is told that it was built for CUDA; its own warning says that it was not.
    """
    with pytest.warns(UserWarning, match="CUDAExecutionProvider"), pytest.raises(ConfigError) as error:
        started(Device("cuda"), tuple(WITH_CUDA))
    assert error.value.value == "cuda:0" and "device cpu" in str(error.value)
    with pytest.warns(UserWarning, match="CUDAExecutionProvider"):
        best, (refused,) = find_best(tuple(WITH_CUDA))
    assert best == CPU and refused == str(error.value)


def test_the_cpu_answers_as_before(sample: Path) -> None:
    """By name, by default and by `auto` (where that is the CPU) the same bytes; threads are still what was asked for."""
    image = read_image(sample)

    def bytes_of(**options: object) -> bytes:
        result = mien.load(**options)(image)  # pyrefly: ignore
        return json.dumps(result.to_dict("all")).encode()

    assert bytes_of() == bytes_of(device="cpu") == bytes_of(device=CPU)
    if find_best()[0] == CPU:
        assert bytes_of() == bytes_of(device="auto")
    runtime = OnnxRuntime(bundled_file("blendshapes.onnx"), threads=3)
    session = runtime.session
    assert runtime.device == CPU and session.get_providers() == ["CPUExecutionProvider"]
    options = session.get_session_options()
    assert options.intra_op_num_threads == 3
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_a_plain_session_gives_the_same_probabilities() -> None:
    """An oracle: onnxruntime alone, without anything of ours."""
    card, runtime = open_model("mien-base")
    assert card.input is not None
    batch = np.random.default_rng(0).normal(size=(5, 1, *card.input.size)).astype(np.float32)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    if bytes_overflow():
        options.add_session_config_entry("session.x64quantprecision", "1")
    alone = onnxruntime.InferenceSession(str(card.weights), options, providers=["CPUExecutionProvider"])
    (name,) = [card.outputs["scores"]]
    (wanted,) = alone.run([name], {alone.get_inputs()[0].name: batch})
    assert np.array_equal(runtime(batch)[name], wanted)


def test_what_is_no_model_is_still_said_for_a_device() -> None:
    with use("auto"), pytest.raises(WeightsError):
        OnnxRuntime(b"no model")


@no_cuda
def test_the_command_refuses_in_one_line(sample: Path, tmp_path: Path) -> None:
    cases = (
        (("predict", sample), "cuda", "onnxruntime-gpu"),
        (("watch", "--camera", sample), "cuda:-1", "cuda:-1"),
        (("batch", sample, "--out", tmp_path / "out"), "cuda", "onnxruntime-gpu"),
    )
    for arguments, device, told in cases:
        run = run_mien(*arguments, "--device", device)
        assert run.returncode == 1 and run.stdout == "" and len(run.stderr.splitlines()) == 1 and told in run.stderr
    assert not (tmp_path / "out" / "_job.json").exists()


def test_the_command_reads_on_the_device(sample: Path) -> None:
    plain, chosen = (run_mien("predict", sample, "--json", *more) for more in ((), ("--device", "cpu")))
    assert plain.returncode == chosen.returncode == 0 and plain.stdout == chosen.stdout


@pytest.mark.parametrize(
    "verb", ["predict", "watch", "evaluate", "compare", "explain", "embed", "serve", "batch", "verify", "train"]
)
def test_every_command_that_runs_networks_has_the_flag(verb: str) -> None:
    from mien.cli import build

    arguments = build(verb)[verb].assemble_argument_collection(parse_docstring=True)
    (found,) = [argument for argument in arguments if "--device" in argument.names]
    assert "cuda:1" in (found.parameter.help or "")


def test_predict_and_batch_have_one_set_of_flags() -> None:
    """What `mien batch` passes on is what `scaling.Options` holds, with the same values where nothing is said."""
    scaling = pytest.importorskip("mien.batch")
    assert NO_FLAGS.options() == scaling.Options()


def test_an_evaluation_says_where_it_ran(tmp_path: Path) -> None:
    data = mien.open_dataset("synthetic", tmp_path, "train", number="24")
    mien.evaluate("mien-base", data, out=tmp_path / "out", faces="whole", page=False, device="cpu")
    about = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert about["environment"]["device"] == "cpu" and "device" not in about["identity"]
    with pytest.raises(ConfigError, match="'gpu'"):
        mien.evaluate("mien-base", data, out=tmp_path / "other", device="gpu")


def test_the_choice_costs_nothing_before_a_network_is_opened() -> None:
    """Neither numpy nor onnxruntime is imported for a word."""
    code = """
import sys
from mien.runtime.devices import Device
Device.parse('cuda:1')
print({'numpy', 'onnxruntime'} & set(sys.modules))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", env=environment(), check=True)
    assert run.stdout == "set()\n"
    assert devices.KINDS[0] == "auto"
