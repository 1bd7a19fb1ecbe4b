"""Maps from inside a torch network: Grad-CAM, Grad-CAM++, integrated gradients, attention. They need weights.

Grad-CAM: Selvaraju et al., ICCV 2017. Grad-CAM++: Chattopadhyay et al., WACV 2018, equation 19 (with an
exponential of the class score, whose constant factor cancels). Integrated gradients: Sundararajan et al., ICML 2017, with the
mean color of the face as baseline; attributions are summed over channels and smoothed for display. Grad-CAM and integrated
gradients use captum.
"""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, cast

import numpy as np
import torch
from captum.attr import IntegratedGradients, LayerGradCam
from torch import Tensor, nn

from .. import models
from ..errors import ConfigError, UnknownName
from ..faces.preprocessing import IMAGE
from ..models.torch_runtime import TorchRuntime, run_network
from ..registry import lookup
from .faces import Probe, SeenFace, smoothed

STEPS = 32  # steps on the path of integrated gradients
SMOOTHING = 1 / 40  # standard deviation of the smoothing of integrated gradients, relative to the side of the face


def runtime_of(probe: Probe, method: str) -> TorchRuntime:
    """Return the torch runtime of the model; raises ConfigError for an exported file without gradients."""
    runtime = probe.recognizer.runtime
    if not isinstance(runtime, TorchRuntime):
        message = f"{method} needs gradients, and {probe.card.file} is an exported file"
        advice = "use its .safetensors weights, or the method occlusion"
        raise ConfigError(f"{message}; {advice}", path=probe.card.file, value=method)
    return runtime


def grad_cam(probe: Probe, face: SeenFace, target: int) -> dict[str, np.ndarray]:
    """Return layer → (h, w) map of the support for the target."""
    network, (image, *rest), score = _opened(probe, face, "grad-cam")
    found = {}
    for name, layer in cam_layers(network, probe, (image, *rest)).items():
        method: Any = LayerGradCam(score, layer)
        attribution = method.attribute(image, target, additional_forward_args=tuple(rest), relu_attributions=True)
        found[name] = attribution.detach()[0, 0].cpu().numpy()
    return found


def grad_cam_plus_plus(probe: Probe, face: SeenFace, target: int) -> dict[str, np.ndarray]:
    """Return layer → (h, w) map, weighted per location and channel."""
    network, inputs, score = _opened(probe, face, "grad-cam++")
    found = {}
    for name, layer in cam_layers(network, probe, inputs).items():
        kept: list[Tensor] = []
        with layer.register_forward_hook(lambda _module, _inputs, output, kept=kept: kept.append(output)):
            value = score(*inputs)[0, target]
        (gradient,) = torch.autograd.grad(value, kept[-1])
        found[name] = plus_plus(kept[-1].detach()[0], gradient[0]).cpu().numpy()
    return found


def plus_plus(activation_CHW: Tensor, gradient_CHW: Tensor) -> Tensor:
    """Return the (H, W) map of Grad-CAM++ for one image's activations and the gradient of its class score there."""
    squared, cubed = gradient_CHW**2, gradient_CHW**3
    below = 2 * squared + activation_CHW.sum((1, 2), keepdim=True) * cubed
    alpha = torch.where(gradient_CHW != 0, squared / torch.where(below != 0, below, 1), 0)
    weight = (alpha * gradient_CHW.relu()).sum((1, 2))
    return (weight[:, None, None] * activation_CHW).sum(0).relu()


def integrated_gradients(probe: Probe, face: SeenFace, target: int) -> dict[str, np.ndarray]:
    """Return one map (S, S) of pixel attributions relative to a face of uniform color."""
    _, (image, *rest), score = _opened(probe, face, "integrated-gradients")
    uniform = image.mean((2, 3), keepdim=True).expand_as(image)
    values = attributions(score, image, tuple(rest), target, uniform)[0].sum(0).numpy()
    return {"": smoothed(values, values.shape[0] * SMOOTHING)}


def attributions(score: Callable[..., Tensor], image: Tensor, rest: tuple[Tensor, ...], target: int, start: Tensor) -> Tensor:
    """Return integrated gradients of a score, (1, C, H, W), along the straight path from `start`."""
    method: Any = IntegratedGradients(score)
    found = method.attribute(
        image, start, target, additional_forward_args=rest, n_steps=STEPS, internal_batch_size=8 if not rest else None
    )
    return found.detach().float().cpu()


def _opened(probe: Probe, face: SeenFace, method: str) -> tuple[nn.Module, tuple[Tensor, ...], Callable[..., Tensor]]:
    """Return the network, its inputs, and the function from inputs to scores before softmax."""
    runtime, name = runtime_of(probe, method), probe.card.outputs["scores"]
    network, images = runtime.network, runtime.tensors(probe.batch(face, [face.pixels]))
    names = [key for key in images if key != IMAGE]

    def score(image: Tensor, *rest: Tensor) -> Tensor:
        return getattr(network(image, **dict(zip(names, rest, strict=True))), name)

    return network, tuple(images[key] for key in (IMAGE, *names)), score


def cam_layers(network: nn.Module, probe: Probe, inputs: tuple[Tensor, ...]) -> dict[str, nn.Module]:
    """Return the layers for Grad-CAM: the requested ones, those of the architecture, or the last spatial layer."""
    modules, architecture = dict(network.named_modules()), probe.card.network["architecture"]
    if probe.layers:
        return {name: lookup(name, modules, "layer", plugins=False) for name in probe.layers}
    try:
        named = models.info(architecture).cam_layers
    except UnknownName:
        named = ()
    return {name: modules[name] for name in named if name in modules} or last_map(network, architecture, inputs)


def last_map(network: nn.Module, architecture: str, inputs: tuple[Tensor, ...]) -> dict[str, nn.Module]:
    """Return the last module with output (N, C, h, w) and more than one location; raises ConfigError for token networks."""
    last: list[str] = []
    names = {module: name for name, module in network.named_modules()}

    def notice(module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[2] * output.shape[3] > 1:
            last.append(names[module])

    with ExitStack() as stack, torch.no_grad():
        for module in network.modules():
            if module is not network:
                stack.enter_context(module.register_forward_hook(notice))
        network(*inputs)
    if not last:
        message = f"no layer of {architecture} has spatial output; use integrated-gradients or occlusion"
        raise ConfigError(message, value=architecture)
    return {last[-1]: network.get_submodule(last[-1])}


def attention(probe: Probe, face: SeenFace, target: int) -> dict[str, np.ndarray]:
    """Return module → (h, w) spatial attention scaled to 0 … 1, of the modules with a method `places`; without the target.

    Raises ConfigError if the network has no spatial attention.
    """
    runtime = runtime_of(probe, "attention")
    attentive = {module: name for name, module in runtime.network.named_modules() if hasattr(module, "places")}
    if not attentive:
        name, known = probe.card.network["architecture"], "dan, dda-*, ddamfn, ddamfn-mtl, mfer, global-cbam and global-roi"
        raise ConfigError(f"{name} has no spatial attention; {known} have", value=name)
    inputs: dict[nn.Module, Tensor] = {}

    def keep(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        inputs.setdefault(module, given[0].clone())

    with ExitStack() as stack, torch.no_grad():
        for module in attentive:
            stack.enter_context(module.register_forward_pre_hook(keep))
        run_network(runtime.network, runtime.tensors(probe.batch(face, [face.pixels])))
    found = {}
    for module, x in inputs.items():  # in execution order
        with torch.no_grad():
            weights = cast("Any", module).places(x)[0].float().cpu().numpy()
        low, high = float(weights.min()), float(weights.max())
        found[attentive[module]] = (weights - low) / (high - low) if high > low else np.zeros_like(weights)
    return found
