"""An ensemble as one ONNX graph: the graphs of its members, and the pooling of their scores as in `mien.runtime.pooling`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..cards import FOUND, Card
from ..runtime.pooling import RULES, SMALLEST, columns
from .tracing import opset_of


class _Builder:
    """Adds nodes and constants to a graph; each method returns the name of its result."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self._count = 0

    def node(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        self._count += 1
        output = name or f"pool/{self._count}"
        self.graph.node.append(helper.make_node(kind, inputs, [output], f"{output}/{kind}", **attributes))
        return output

    def constant(self, value: object, kind: type = np.float32) -> str:
        self._count += 1
        name = f"pool/constant{self._count}"
        self.graph.initializer.append(numpy_helper.from_array(np.array(value, kind), name))
        return name

    def total(self, terms: Sequence[str]) -> str:
        return self.node("Sum", *terms) if len(terms) > 1 else terms[0]


def fused_graph(card: Card, members: Sequence[tuple[Card, onnx.ModelProto, dict[str, str]]]) -> tuple[Card, onnx.ModelProto]:
    """Return the graph of an ensemble, and its card with the outputs of the graph.

    Each member is its card (with the outputs of its graph), its graph, and image → input of the ensemble.
    """
    opset = max(opset_of(model) for _, model, _ in members)
    graph = helper.make_graph([], card.name, [], [])
    given: list[str] = []
    for place, (_, model, names) in enumerate(members):
        if opset_of(model) != opset:
            model = onnx.version_converter.convert_version(model, opset)
        own = [value.name for value in model.graph.input]
        order = own if set(own) == set(names) else list(names)
        part = onnx.compose.add_prefix(model, f"{place}:").graph
        renamed = {f"{place}:{name}": names[image] for name, image in zip(own, order, strict=True)}
        for node in part.node:
            node.input[:] = [renamed.get(name, name) for name in node.input]
        for value in part.input:
            value.name = renamed[value.name]
            if value.name not in given:
                given.append(value.name)
                graph.input.append(value)
        graph.node.extend(part.node)
        graph.initializer.extend(part.initializer)
    build = _Builder(graph)
    shares, total = _shares(build, card)
    for role, name in card.outputs.items():
        if role == "scores":
            _scores(build, card, [owner for owner, *_ in members], shares, total, name)
        else:
            values = [f"{place}:{owner.outputs[role]}" for place, (owner, *_) in enumerate(members)]
            mean = build.total([build.node("Mul", *pair) for pair in zip(values, shares, strict=True)])
            build.node("Div", mean, total, name=name)
        width = len(card.labels) if role == "scores" else None
        graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width]))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=members[0][1].ir_version)
    onnx.checker.check_model(model)
    return card, model


def _shares(build: _Builder, card: Card) -> tuple[list[str], str]:
    """Return the weight of each member, constant or (N, 1), and their sum, which is the same for faces without landmarks."""
    regional = [bool(each.regions) for each in card.members]
    weights = [build.constant([[each.weight]]) for each in card.members]
    total = build.constant([[sum(each.weight for each in card.members)]])
    if any(regional):
        build.graph.input.append(helper.make_tensor_value_info(FOUND, TensorProto.FLOAT, ["batch"]))
    if not any(regional) or all(regional):
        return weights, total
    known = build.node("Cast", build.node("Greater", FOUND, build.constant(0.5)), to=TensorProto.FLOAT)
    known = build.node("Unsqueeze", known, build.constant([1], np.int64))
    left = [build.node("Mul", each, known) if reads else each for each, reads in zip(weights, regional, strict=True)]
    scale = build.node("Div", total, build.total(left))
    return [build.node("Mul", each, scale) for each in left], total


def _scores(build: _Builder, card: Card, owners: Sequence[Card], shares: Sequence[str], total: str, name: str) -> None:
    smallest, terms = build.constant(SMALLEST), []
    logits = card.network.get("rule", RULES[0]) == "logits"
    for place, (each, owner) in enumerate(zip(card.members, owners, strict=True)):
        scores, chosen = f"{place}:{owner.outputs[each.output]}", columns(card.labels, each.labels)
        if chosen != list(range(len(each.labels))):
            scores = build.node("Gather", scores, build.constant(chosen, np.int64), axis=1)
        if len(chosen) < len(each.labels):
            scores = build.node("Div", scores, build.node("ReduceSum", scores, build.constant([1], np.int64), keepdims=1))
        scores = build.node("Log", build.node("Max", scores, smallest)) if logits else scores
        terms.append(build.node("Mul", scores, shares[place]))
    pooled = build.total(terms)
    if not logits:
        pooled = build.node("Log", build.node("Max", build.node("Div", pooled, total), smallest))
    scaled = build.node("Div", pooled, build.constant(card.calibration.temperature))
    build.node("Softmax", scaled, name=name, axis=1)
