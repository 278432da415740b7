"""What regularisers see of a forward pass, and the frozen copy of a network that some compare it with."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Tap:
    """Takes what a module puts out, or is given, in a forward pass.

    Its hooks are bound methods, so that a copied network fills a copied tap and never this one.

    Args:
        module: where to listen.
        given: listen to the module's first argument instead of to its output.
        gradients: listen to passes in which gradients are recorded (a training step, not a validation), or to those in
            which they are not.
    """

    def __init__(self, module: nn.Module, *, given: bool = False, gradients: bool = True) -> None:
        self.gradients = gradients
        self._value: object = None
        self._hook = (
            module.register_forward_pre_hook(self._before) if given else module.register_forward_hook(self._after)
        )

    def _before(self, module: nn.Module, arguments: tuple[object, ...]) -> None:
        self._keep(arguments[0])

    def _after(self, module: nn.Module, arguments: tuple[object, ...], output: object) -> None:
        self._keep(output)

    def _keep(self, value: object) -> None:
        if torch.is_grad_enabled() == self.gradients:
            self._value = value

    def take(self) -> Any:
        """What came last; None if nothing did since the last call, so that nothing is held longer than needed."""
        value, self._value = self._value, None
        return value

    def close(self) -> None:
        """Remove the hook."""
        self._hook.remove()
        self._value = None


def linear_classifier(model: nn.Module, strategy: str) -> nn.Linear:
    """The network's classifier, if it is one linear layer.

    Raises:
        ValueError: it is something else.
    """
    get_classifier = getattr(model, "get_classifier", None)
    classifier = get_classifier() if get_classifier else None
    if isinstance(classifier, nn.Linear):
        return classifier
    raise ValueError(
        f"strategy={strategy}: needs a single linear classifier, and this network's is of the type "
        f"{type(classifier).__name__}; use another backbone or another strategy"
    )


def classifier_input(tap: Tap) -> Tensor:
    """The features (B, features) that the classifier was given in the pass before."""
    features = tap.take()
    assert isinstance(features, Tensor), "the classifier was given nothing since the last step"
    return features


def frozen_copy(model: nn.Module) -> nn.Module:
    """The network as it is now, to stay so: a copy in eval mode without gradients."""
    return copy.deepcopy(model).eval().requires_grad_(False)


class Source:
    """The network at the start of a phase, with the source's classifier in the place of the target's.

    Args:
        model: the network as it is now; it is copied.
        classifier: `weight` and, mostly, `bias` of the source's classifier.
        device: where it is to run.
        strategy: its name, for messages.
    """

    def __init__(
        self, model: nn.Module, classifier: Mapping[str, Tensor] | None, device: torch.device, strategy: str
    ) -> None:
        if classifier is None:
            raise ValueError(
                f"strategy={strategy}: these weights came without a classifier of their own; "
                "use weights with one, or another strategy"
            )
        self._model = frozen_copy(model)
        self._tap = Tap(linear_classifier(self._model, strategy), given=True, gradients=False)
        self._classifier = {name: value.detach().to(device, copy=True) for name, value in classifier.items()}

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """What the source's classifier says of images on the device: (B, source classes)."""
        self._model(images)
        return F.linear(classifier_input(self._tap), self._classifier["weight"], self._classifier.get("bias"))
