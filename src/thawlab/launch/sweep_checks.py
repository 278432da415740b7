"""What the jobs of a sweep ask of their networks, checked before the first of them starts.

The stages of a network are known to timm alone, whose import takes seconds: `python -m thawlab.launch.sweep_checks`
reads the questions from its standard input and answers beside the process that opens the sweep, which stays light. For
a sweep that goes on it also looks at the weights, as `weights_digests` does.
"""

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from thawlab.config.job import values
from thawlab.config.schema import Config, ConfigError
from thawlab.launch.sweep_inputs import weights_key
from thawlab.launch.weights_digests import weights_digests

_EVERY_NETWORK_HAS = (0, "none", "all")


@dataclass
class Checking:
    """A check that is under way in another process; None where there is nothing to ask.

    Attributes:
        process: that process.
        needed: whether its answer cannot be done without.
    """

    process: "subprocess.Popen[str] | None"
    needed: bool = False
    _weights: Mapping[str, str] | None = field(default=None, compare=False)

    def finish(self) -> Mapping[str, str]:
        """Wait for the answer: the digests of weights by their `weights_key`, as far as they were asked for.

        Raises:
            ConfigError: all that does not fit, each once.
        """
        if self._weights is None:
            self._weights = self._answer()
        return self._weights

    def _answer(self) -> Mapping[str, str]:
        if self.process is None:
            return {}
        said, _ = self.process.communicate()
        if self.process.returncode != 0:
            if self.needed:
                raise ConfigError(
                    "resume=true: the pretrained weights could not be read (the process that does so ended with exit "
                    f"code {self.process.returncode}); try again, or leave resume out to start a new sweep"
                )
            return {}  # a check that breaks down says nothing: the jobs will
        answer = json.loads(said)
        if answer["mistakes"]:
            raise ConfigError("\n".join(answer["mistakes"]))
        return answer["weights"]

    def stop(self) -> None:
        """Wait no longer."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def begin(configs: Iterable[Config], goes_on: bool = False) -> Checking:
    """Start to check all that is asked of networks, and to read the weights that are loaded if the sweep goes on."""
    jobs = list(configs)
    loading = {key: values(each) for each in jobs if goes_on and (key := weights_key(each)) is not None}
    asked = {"networks": questions(jobs), "weights": loading}
    if not any(asked.values()):
        return Checking(None)
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "thawlab.launch.sweep_checks"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(asked))
    process.stdin.close()
    process.stdin = None  # or `communicate` would close it again
    return Checking(process, bool(loading))


def questions(configs: Iterable[Config]) -> list[dict[str, Any]]:
    """For each network and image size the depths that are asked for, but for those that every network has."""
    asked: dict[tuple[str, int | None], dict[str, dict[Any, None]]] = {}
    for config in configs:
        prefill = config.cache.prefill if config.cache.prefill != "all" else []
        depths = {"freeze": [config.freeze], "transfer": [config.transfer], "cache.prefill": prefill}
        found = asked.setdefault((config.backbone.name, config.image_size), {})
        for key, wanted in depths.items():
            found.setdefault(key, {}).update(dict.fromkeys(each for each in wanted if _is_asked(each)))
    return [
        {"backbone": name, "image_size": size, "depths": {key: list(wanted) for key, wanted in depths.items()}}
        for (name, size), depths in asked.items()
        if size is not None or "." in name or any(depths.values())
    ]


def _is_asked(depth: int | float | str) -> bool:
    return depth not in _EVERY_NETWORK_HAS and not isinstance(depth, float)


def answers(asked: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What does not fit, in sentences."""
    from thawlab.backbones.outline import check_forward, outline, trained_size
    from thawlab.backbones.stages import depth_to_count, stages

    for each in asked:
        name, size = each["backbone"], each["image_size"]
        try:
            model = outline(name, size)
            if size is not None:
                check_forward(model, name, size, trained_size(name))
        except ValueError as error:
            yield str(error)
            if size is None or "image_size" not in str(error):
                continue
            model = outline(name)
        found = stages(model)
        for key, depths in each["depths"].items():
            for depth in depths:
                try:
                    depth_to_count(depth, found, key)
                except ValueError as error:
                    yield f"{error} (backbone={name})" if len(asked) > 1 else str(error)


def main() -> None:
    """Read the questions, print the answers in JSON."""
    asked = json.load(sys.stdin)
    mistakes = [*answers(asked["networks"])]
    weights, unreadable = weights_digests(asked["weights"])
    print(json.dumps({"mistakes": list(dict.fromkeys([*mistakes, *unreadable])), "weights": weights}))


if __name__ == "__main__":
    main()
