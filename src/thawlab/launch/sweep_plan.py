"""The jobs of a sweep: which there are, whether they can be run, and what differs between them."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING

from thawlab.config.schema import Config, ConfigError
from thawlab.config.solved_head import alike
from thawlab.launch import head_lists, parsing, preflight
from thawlab.training.devices import check_devices

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override


def expand(overrides: Sequence[str], parameters: Mapping[str, str]) -> list[list[str]]:
    """The jobs of a sweep, each as its list of overrides, in Hydra's order.

    Raises:
        ConfigError: there are none.
    """
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser

    given = [*(f"{key}={value}" for key, value in parameters.items()), *overrides]
    hydra_now = GlobalHydra.instance()
    loader = hydra_now.config_loader() if hydra_now.is_initialized() else None  # glob() asks it for the choices
    parsed = OverridesParser.create(loader).parse_overrides(given)
    jobs = [list(job) for job in product(*{each.get_key_element(): _words(each) for each in parsed}.values())]
    if not jobs:
        empty = [each.input_line for each in parsed if each.is_sweep_override() and not [*each.sweep_iterator()]]
        raise ConfigError(f"{' '.join(map(str, empty))}: stands for no value at all, so that there is nothing to run")
    return jobs


def _words(override: "Override") -> list[str]:
    """What an override says in one job after the other."""
    key = override.get_key_element()
    if not override.is_sweep_override():
        return [f"{key}={override.get_value_element_as_str()}"]
    return [f"{key}={value}" for value in override.sweep_string_iterator()]


def check(jobs: Sequence[Sequence[str]]) -> list[tuple[Config, ...]]:
    """The typed configuration of every job, or of the heads that it trains together.

    Raises:
        ConfigError: all mistakes of all jobs, each once.
    """
    from hydra import compose

    configs, mistakes = [], []
    for job in jobs:
        try:
            config, heads = head_lists.parse(parsing.plain(compose("config", overrides=list(job))))
            check_devices(config.trainer)
            preflight.check_inputs(config)
            configs.append(heads or (config,))
        except ConfigError as error:
            mistakes += str(error).splitlines()
    if len(configs) == len(jobs):
        mistakes += alike([config for heads in configs for config in heads], varying(jobs))
    if configs:
        try:
            preflight.check_store(configs[0][0])
        except ConfigError as error:
            mistakes += str(error).splitlines()
    if mistakes:
        raise ConfigError("\n".join(dict.fromkeys(mistakes)))
    return configs


def varying(jobs: Sequence[Sequence[str]]) -> dict[str, list[str]]:
    """The keys that differ between the jobs, each with its values."""
    values: dict[str, dict[str, None]] = {}
    for job in jobs:
        for override in job:
            key, _, value = override.partition("=")
            values.setdefault(key, {})[value] = None
    return {key: list(found) for key, found in values.items() if len(found) > 1}
