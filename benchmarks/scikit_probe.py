"""The plain recipe of a linear probe: features of all images once, scikit-learn's logistic regression, C on validation.

`python benchmarks/scikit_probe.py KEY=VALUE …` prints its seconds and accuracies as JSON; the images, their splits and
the network are those of the same settings of train.py.
"""

import json
import sys
import tempfile
import time

_BEGUN = time.perf_counter()

import thawlab  # noqa: E402, F401  (its import hook lets timm import torchvision)

# isort: split
import numpy as np  # noqa: E402
import torch  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from torch import nn  # noqa: E402

from thawlab.launch.compose import compose  # noqa: E402
from thawlab.training.preparation import Prepared, prepare  # noqa: E402

STRENGTHS = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1e3, 1e4)


def main(arguments: list[str]) -> int:
    """Print the result as JSON."""
    with tempfile.TemporaryDirectory() as folder:
        job = compose([*arguments, "augment=none", f"hydra.run.dir={folder}/run"], "scikit_probe.py")
    assert job is not None
    prepared = prepare(job.config)
    started = time.perf_counter()
    parts = {name: _features(prepared, name) for name in ("train", "val", "test")}
    extracted = time.perf_counter()
    found = _best(parts)
    seconds = {"start": started - _BEGUN, "forward": extracted - started, "solve": time.perf_counter() - extracted}
    print(json.dumps({**seconds, **found}))
    return 0


def _features(prepared: Prepared, part: str) -> tuple[np.ndarray, np.ndarray]:
    """What the network's classifier is given, and labels."""
    model = prepared.network.model.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    classifier: nn.Module = model.get_classifier()  # type: ignore[operator]
    seen: list[torch.Tensor] = []
    hook = classifier.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].flatten(1)))
    labels = []
    with torch.no_grad():
        for images, label, _ in prepared.loaders.ordered_batches(getattr(prepared.data, part)):
            model(images.contiguous(memory_format=torch.channels_last))
            labels.append(label)
    hook.remove()
    return torch.cat(seen).numpy(), torch.cat(labels).numpy()


def _best(parts: dict[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    solver = LogisticRegression(max_iter=1000, warm_start=True)
    found = []
    for strength in STRENGTHS:
        solver.set_params(C=strength).fit(*parts["train"])
        val, test = (float(solver.score(*parts[name])) for name in ("val", "test"))
        found.append((val, -strength, test))
    val, strength, test = max(found)
    return {"C": -strength, "best/val_acc": val, "test/acc": test}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
