"""Add linear heads for FERPlus' votes and LFW's labels to networks of zoo/, which stay as they are.

    python tools/zoo_heads.py dda-sface ddamfn-sface --fer2013 ../shared/data/fer2013 --lfw data/lfw-aligned

The heads are fitted on the frozen feature of the file: by the votes of leak-free training images, the weight decay chosen on
the validation split; and by the labels of LFW's training people, the weight decay chosen on every fifth of them. LFW's faces
are those of `mien prepare align --crop fer2013-like --size 96 --detector retinaface --faceless discard`.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import onnx
import tomli_w
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from mien import cards
from mien.data.datasets import Dataset, open_dataset
from mien.evaluation.embeddings import embed
from mien.exporting.exporter import OnnxFile
from mien.labels import FERPLUS, index_map
from mien.training.criterion import Targets, votes
from mien.training.data import without_leaks

ZOO = Path(__file__).resolve().parents[1] / "zoo"
DECAYS = (1e-4, 1e-3, 1e-2, 1e-1)
PHOTOS = " The head lfw was trained on news photographs of LFW (labels: muxspace/facial_expressions, Apache-2.0)."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", help="NAME of zoo/NAME.onnx")
    parser.add_argument("--fer2013", type=Path, default=Path("../shared/data/fer2013"), help="folder of FER2013")
    parser.add_argument("--lfw", type=Path, default=Path("data/lfw-aligned"), help="folder of LFW's aligned faces")
    parser.add_argument("--limit", type=int, default=9000, help="training images of FER2013; a sixth as many for validation")
    args = parser.parse_args()
    fer2013 = {split: open_dataset("fer2013", args.fer2013, split=split) for split in ("train", "validation", "test")}
    train = without_leaks(fer2013["train"], (fer2013["validation"], fer2013["test"])).of_each_class(args.limit)
    validation = fer2013["validation"].of_each_class(args.limit // 6)
    photos = open_dataset("csv", args.lfw, split="train")
    _, person = np.unique(photos.subject.astype(str), return_inverse=True)  # pyrefly: ignore
    held_out = person % 5 == 0
    for name in args.names:
        path = ZOO / f"{name}.onnx"
        features = {data.name + data.split: _features(path, data) for data in (train, validation, photos)}
        x, y = features["fer2013train"], {"votes": torch.from_numpy(train.votes).float()}  # pyrefly: ignore
        check = (features["fer2013validation"], {"votes": torch.from_numpy(validation.votes).float()})  # pyrefly: ignore
        ferplus, decay, loss = chosen((x, y), check)
        said = [f"ferplus {len(x):,} images, weight decay {decay:g}, loss {loss:.4f} on the validation split"]
        x, label = features["csvtrain"], torch.from_numpy(index_map(photos.labels, FERPLUS)[photos.label])
        parts = [(x[rows], {"label": label[rows]}) for rows in (~held_out, held_out)]
        _, decay, loss = chosen(*parts)
        lfw = fit(x, {"label": label}, decay)
        said.append(f"lfw {len(x):,} images, weight decay {decay:g}, loss {loss:.4f} on people held out")
        add(path, {"ferplus": ferplus, "lfw": lfw}, f"fitted on the frozen feature: {'; '.join(said)}")
        print(name, said, flush=True)


def _features(path: Path, data: Dataset) -> Tensor:
    found = embed(path, data, faces="whole")
    assert found.output == "feature" and not found.missed
    return torch.from_numpy(found.features)


def chosen(train: tuple[Tensor, Targets], held_out: tuple[Tensor, Targets]) -> tuple[nn.Linear, float, float]:
    """Return the head whose weight decay has the lowest loss on held-out samples, with its weight decay and loss."""
    heads = [(fit(*train, decay), decay) for decay in DECAYS]
    found = [(float(_loss(head(held_out[0]), held_out[1])), head, decay) for head, decay in heads]
    loss, head, decay = min(found, key=lambda each: each[0])
    return head, decay, loss


def _loss(scores: Tensor, targets: Targets) -> Tensor:
    return votes(scores, targets) if "votes" in targets else nn.functional.cross_entropy(scores, targets["label"])


def fit(x: Tensor, targets: Targets, decay: float) -> nn.Linear:
    """Return a linear head on features (N, D), fitted on standardized features and written for plain ones."""
    mean, deviation = x.mean(0), x.std(0).clamp(min=1e-6)
    standard = (x - mean) / deviation
    head = nn.Linear(x.shape[1], len(FERPLUS))
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = _loss(head(standard), targets) + decay * head.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)  # pyrefly: ignore
    with torch.no_grad():
        head.weight.div_(deviation)
        head.bias.sub_(head.weight @ mean)
    return head.requires_grad_(False)


def add(path: Path, heads: dict[str, nn.Linear], said: str) -> None:
    """Add the probabilities of heads to an exported network as outputs, and to its cards."""
    model = onnx.load(path)
    graph, card = model.graph, cards.read(path.with_suffix(".toml"))
    for name in heads:  # Heads of an earlier run are replaced.
        for part in (graph.node, graph.initializer, graph.output):
            for each in [each for each in part if each.name == name or each.name.startswith(f"/extra_heads/{name}/")]:
                part.remove(each)
    for name, head in heads.items():
        place = f"/extra_heads/{name}"
        for entry, values in (("weight", head.weight), ("bias", head.bias)):
            graph.initializer.append(numpy_helper.from_array(values.numpy(), f"{place}/{entry}"))
        inputs = [card.outputs["feature"], f"{place}/weight", f"{place}/bias"]
        graph.node.append(helper.make_node("Gemm", inputs, [f"{place}/scores"], f"{place}/Gemm", transB=1))
        graph.node.append(helper.make_node("Softmax", [f"{place}/scores"], [name], f"{place}/Softmax", axis=1))
        graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", len(FERPLUS)]))
    onnx.checker.check_model(model)
    changed = dataclasses.replace(
        card,
        outputs={**card.outputs, **{name: name for name in heads}},
        heads=dict.fromkeys(heads, FERPLUS),
        license_note=card.license_note.removesuffix(PHOTOS) + PHOTOS,
        export={**card.export, "heads": said},
    )
    written = dataclasses.replace(OnnxFile(model).write(path, changed), file=path.name)
    path.with_suffix(".toml").write_text(tomli_w.dumps(written.to_dict()), encoding="utf-8")


if __name__ == "__main__":
    main()
