"""Every shipped module provides what the contract of its kind asks for; what does not is refused by name."""

import inspect
from typing import TypeVar

import pytest

import thawlab

# isort: split
import thawlab.strategies
from thawlab.config.plugins import members
from thawlab.config.schema import ConfigError, Section
from thawlab.data.sources.contract import SOURCES, ChecksSettings, HasPictures
from thawlab.strategies.contract import STRATEGIES, ExtendsNetwork, MeasuresGradients, NeedsSourceClassifier
from thawlab.strategies.extensions.contract import EXTENSIONS, Exports
from thawlab.strategies.regularisers.contract import REGULARISERS

OPTIONAL = {
    STRATEGIES: (ExtendsNetwork, MeasuresGradients, NeedsSourceClassifier),
    SOURCES: (ChecksSettings, HasPictures),
    EXTENSIONS: (Exports,),
    REGULARISERS: (),
}
SHIPPED = [(plugins, name) for plugins in OPTIONAL for name in plugins.names()]


def types_of(function, settings=None):
    """The types that a function takes and returns, without the `self` of a Protocol's; `settings` for its variable."""
    found = inspect.signature(function)
    types = [each.annotation for each in found.parameters.values() if each.name != "self"]
    return [settings if isinstance(each, TypeVar) else each for each in (*types, found.return_annotation)]


@pytest.mark.parametrize(("plugins", "name"), SHIPPED, ids=lambda value: getattr(value, "kind", value))
def test_a_shipped_module_takes_and_returns_the_types_of_its_contract(plugins, name):
    module = plugins.load(name)
    settings = getattr(module, "Settings", Section)
    for protocol in (plugins.protocol, *(each for each in OPTIONAL[plugins] if isinstance(module, each))):
        for member in members(protocol):
            asked, given = vars(protocol)[member], getattr(module, member)
            if member == "Settings":
                assert issubclass(given, Section)
            elif isinstance(asked, property):
                assert [type(given)] == types_of(asked.fget)
            elif member == "create":  # returns a class of its own, which is a Regulariser
                assert types_of(given)[:-1] == types_of(asked, settings)[:-1]
            else:
                assert types_of(given) == types_of(asked, settings)


def test_the_settings_of_a_strategy_and_a_source_carry_its_name():
    for plugins in (STRATEGIES, SOURCES):
        for name in plugins.names():
            assert plugins.load(name).Settings.model_fields["name"].annotation.__args__ == (name,)


@pytest.mark.parametrize(
    ("plugins", "message"),
    [
        (STRATEGIES, "strategy.name=delt: no such strategy; nearest: delta"),
        (SOURCES, "dataset.name=delt: no such dataset; choices: digits, folder"),
        (EXTENSIONS, "EXTENSION=delt: no such extension; choices: adapter, lora, source_classifier, stoch_norm"),
        (REGULARISERS, "Phase.regularisers=delt: no such regulariser; nearest: delta"),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
def test_an_unknown_name_is_refused_with_the_nearest(plugins, message):
    with pytest.raises(ConfigError) as refusal:
        plugins.load("delt")
    assert str(refusal.value) == message


def test_a_module_that_lacks_something_is_refused_with_what_it_lacks_and_its_file(tmp_path, monkeypatch):
    file = tmp_path / "half_written.py"
    file.write_text('PAPER = "–"\n')
    monkeypatch.setattr(thawlab.strategies, "__path__", [*thawlab.strategies.__path__, str(tmp_path)])
    with pytest.raises(ConfigError) as refusal:
        STRATEGIES.load("half_written")
    contract = inspect.getfile(STRATEGIES.protocol)
    assert str(refusal.value) == (
        f"strategy.name=half_written: {file} has no Settings, no phases; a strategy is a module as Strategy in "
        f"{contract} describes it"
    )
