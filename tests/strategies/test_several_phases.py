"""Strategies that move through the layers in phases: linear_probe, lp_ft, freeze_unfreeze, gradual, transplant."""

import pytest
from fake_layers import HEAD, STAGES, layers, planned, rates

from thawlab.strategies.phases import Logistic, ParameterGroup, Phase, Schedule

STRENGTHS = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1e3, 1e4)
SOLVED = Phase(
    "linear_probe", 1, (ParameterGroup("head", HEAD, 1.0),), batch_norm="eval", logistic=Logistic(STRENGTHS, 1000)
)
BACKBONE = tuple(name for stage in STAGES for name in stage.parameters)


@pytest.mark.parametrize("frozen", range(5))
def test_linear_probe_trains_the_head_alone_at_every_freeze_depth(frozen):
    phases = planned("linear_probe", 3, layers(frozen=frozen), solver="gradient", lr_scale=2.0)
    assert phases == [Phase("linear_probe", 3, (ParameterGroup("head", HEAD, 2.0),), batch_norm="eval")]
    assert phases[0].parameters == {*HEAD}


def test_linear_probe_solved_for_is_one_epoch_whatever_the_budget():
    assert planned("linear_probe", 30, solver="lbfgs", lr_scale=2.0) == [SOLVED]
    assert planned("linear_probe", 30) == [SOLVED]


def test_lp_ft_solves_for_the_head_and_tunes_all_at_a_small_rate_with_fixed_statistics():
    probe, tuning = planned("lp_ft", 10, layers(frozen=2))
    assert probe == SOLVED
    assert rates(tuning) == {"layer2": 0.1, "layer3": 0.1, "head": 0.1}
    assert tuning == Phase("finetune", 9, tuning.groups, batch_norm="eval")


def test_lp_ft_can_step_to_its_head_instead():
    probe, tuning = planned("lp_ft", 10, solver="gradient", probe_epochs=3, probe_lr_scale=2.0)
    assert probe == Phase("linear_probe", 3, (ParameterGroup("head", HEAD, 2.0),), batch_norm="eval")
    assert tuning.epochs == 7


def test_freeze_unfreeze_has_the_rates_and_schedules_of_fastai():
    freeze, unfreeze = planned("freeze_unfreeze", 5)
    assert freeze == Phase(
        "freeze", 1, (ParameterGroup("head", HEAD, 1.0),), schedule=Schedule("onecycle", 0.99, 1e-5, 0.04, True)
    )
    # fastai's even_mults(0.5 / 100, 0.5, 5): each 100 ** (1/4) times the one below it
    assert list(rates(unfreeze)) == ["stem", "layer1", "layer2", "layer3", "head"]
    assert list(rates(unfreeze).values()) == pytest.approx([0.005, 0.0158113883, 0.05, 0.158113883, 0.5])
    assert unfreeze == Phase("unfreeze", 4, unfreeze.groups, schedule=Schedule("onecycle", 0.3, 1e-5, 0.2, True))


def test_freeze_unfreeze_spreads_its_rates_over_what_is_not_frozen():
    unfreeze = planned("freeze_unfreeze", 5, layers(frozen=3), freeze_epochs=2)[1]
    assert rates(unfreeze) == {"layer3": 0.005, "head": 0.5}
    assert unfreeze.epochs == 3


def test_gradual_thaws_one_stage_a_phase_from_the_top_each_at_a_smaller_rate():
    phases = planned("gradual", 7, lr_divisor=2.0)
    assert [(phase.name, phase.epochs, rates(phase)) for phase in phases] == [
        ("head", 1, {"head": 1.0}),
        ("layer3", 1, {"layer3": 0.5, "head": 1.0}),
        ("layer2", 1, {"layer2": 0.25, "layer3": 0.5, "head": 1.0}),
        ("layer1", 1, {"layer1": 0.125, "layer2": 0.25, "layer3": 0.5, "head": 1.0}),
        ("stem", 3, {"stem": 0.0625, "layer1": 0.125, "layer2": 0.25, "layer3": 0.5, "head": 1.0}),
    ]
    assert {phase.schedule for phase in phases} == {Schedule("linear", 0.1, 1 / 32)}


def test_gradual_stops_at_the_freeze_depth():
    phases = planned("gradual", 7, layers(frozen=2), epochs_per_phase=2)
    assert [(phase.name, phase.epochs) for phase in phases] == [("head", 2), ("layer3", 2), ("layer2", 3)]
    assert list(rates(phases[-1])) == ["layer2", "layer3", "head"]


@pytest.mark.parametrize(
    ("epochs", "lowest"),
    [(2, ["head", "stem"]), (3, ["head", "layer2", "stem"]), (4, ["head", "layer3", "layer2", "stem"])],
)
def test_with_few_epochs_stages_thaw_together(epochs, lowest):
    phases = planned("gradual", epochs)
    assert [phase.name for phase in phases] == lowest
    assert [phase.groups[0].name for phase in phases] == lowest
    assert [phase.epochs for phase in phases] == [1] * epochs


@pytest.mark.parametrize(
    ("copied", "expected"),
    [
        ("frozen", {"layer2": 1.0, "layer3": 1.0, "head": 1.0}),
        ("tuned", {"stem": 0.5, "layer1": 0.5, "layer2": 1.0, "layer3": 1.0, "head": 1.0}),
    ],
)
def test_transplant_holds_or_tunes_what_it_copies_from_the_source(copied, expected):
    (phase,) = planned("transplant", 6, layers(kept=2), copied=copied, lr_scale=0.5)
    assert rates(phase) == expected
    assert phase == Phase("transplant", 6, phase.groups)


@pytest.mark.parametrize("copied", ["frozen", "tuned"])
def test_the_control_copies_from_a_network_trained_on_the_target(copied):
    base, transplant = planned(
        "transplant", 6, layers(kept=2), copied=copied, source="target", base_epochs=4, lr_scale=0.5
    )
    assert rates(base) == {"stem": 1.0, "layer1": 1.0, "layer2": 1.0, "layer3": 1.0, "head": 1.0}
    assert base == Phase("base", 4, base.groups, draw=(*BACKBONE, *HEAD), selectable=False)
    (alone,) = planned("transplant", 6, layers(kept=2), copied=copied, lr_scale=0.5)
    above = (*STAGES[2].parameters, *STAGES[3].parameters)
    assert transplant == Phase("transplant", 6, alone.groups, draw=(*above, *HEAD))


def test_the_control_trains_its_base_as_long_unless_told_otherwise():
    assert [phase.epochs for phase in planned("transplant", 6, layers(kept=2), source="target")] == [6, 6]


@pytest.mark.parametrize(("kept", "trained"), [(0, 4), (4, 0), (None, 0)])
def test_transplant_takes_nothing_and_everything_too(kept, trained):
    (phase,) = planned("transplant", 6, layers(kept=kept))
    assert len(phase.groups) == trained + 1


def test_transplant_refuses_a_freeze_depth():
    message = r"^freeze=2: strategy=transplant freezes what is copied by itself; use freeze=0, transfer=k"
    with pytest.raises(ValueError, match=message):
        planned("transplant", 6, layers(frozen=3, kept=3))


@pytest.mark.parametrize(
    ("name", "changes", "first"),
    [
        ("lp_ft", {}, 1),
        ("lp_ft", {"solver": "gradient", "probe_epochs": 3}, 3),
        ("freeze_unfreeze", {"freeze_epochs": 2}, 2),
        ("gradual", {"epochs_per_phase": 4}, 4),
        ("delta", {}, 1),
    ],
)
def test_epochs_that_leave_nothing_after_the_first_phase_are_refused(name, changes, first):
    message = f"^epochs={first}: strategy={name} begins with {first} .* use epochs={first + 1} or more$"
    with pytest.raises(ValueError, match=message):
        planned(name, first, **changes)
    assert [phase.epochs for phase in planned(name, first + 1, **changes)] == [first, 1]
