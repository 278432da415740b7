"""What thawlab uses of other packages without their promise to keep it: all of it stands here, and is still there."""

import ast
import importlib
import platform
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import thawlab

# isort: split
import pytorch_lightning as pl
import torch

SOURCE = Path(thawlab.__file__).parent

# Private names: where they are found, the only file that uses them, and what for.
PRIVATE = {
    ("torch.utils._pytree", "tree_flatten"): ("backbones/torch_internals.py", "taking apart what a module returns"),
    ("torch.utils._pytree", "tree_leaves"): ("backbones/torch_internals.py", "taking apart what a module returns"),
    ("torch.utils._pytree", "tree_unflatten"): ("backbones/torch_internals.py", "handing a module's results back"),
    ("torch.utils._pytree", "TreeSpec"): ("backbones/torch_internals.py", "handing a module's results back"),
    ("torch", "Tensor._version"): ("backbones/torch_internals.py", "telling whether a layer writes to its input"),
    ("torch", "_foreach_norm"): ("backbones/torch_internals.py", "clipping the gradients of short steps"),
    ("torch", "_foreach_mul_"): ("backbones/torch_internals.py", "clipping the gradients of short steps"),
    ("torch", "_fused_adam_"): ("backbones/torch_internals.py", "steps of many heads"),
    ("torch", "_fused_adamw_"): ("backbones/torch_internals.py", "steps of many heads"),
    ("torch", "_fused_sgd_"): ("backbones/torch_internals.py", "steps of many heads"),
    ("mlflow.store.db.utils", "_initialize_tables"): ("tracking/store_creation.py", "making a store's tables"),
}
# Set on objects, or inherited from a class that is made to be extended.
OTHERS = {
    "_step_supports_amp_scaling": "training/optimizers.py",
    "_get_header_dict": "launch/search_path.py",
    "_exit": "cli/ui.py",  # documented, of os
    "_replace": "tracking/addresses.py",  # documented, of named tuples
}
# Not underscored, yet documented nowhere.
UNDOCUMENTED = [
    ("hydra.grammar.gen.OverrideLexer", "OverrideLexer", "showing where an argument cannot be read"),
    ("hydra.grammar.gen.OverrideParser", "OverrideParser.override", "showing where an argument cannot be read"),
    ("hydra.plugins.config_source", "ConfigSource._get_header_dict", "reading the package of a study"),
    ("mlflow.store.db.base_sql_model", "Base.metadata", "knowing MLflow's tables from others"),
    ("mlflow.store.tracking.dbmodels.initial_models", "Base.metadata", "knowing MLflow's tables from others"),
    ("mlflow.store.db.utils", "create_sqlalchemy_engine", "connecting to a store as MLflow does"),
    ("mlflow.utils.search_utils", "SearchUtils.filter", "filters of runs"),
    ("mlflow.store.artifact.artifact_repository_registry", "get_artifact_repository", "artifacts of a comparison"),
    ("multiprocessing.context", "get_spawning_popen", "handing memory to workers that are not forked"),
    ("multiprocessing.reduction", "DupFd", "handing memory to workers that are not forked"),
    ("multiprocessing.context", "ForkServerProcess", "workers of one of several training processes"),
    ("multiprocessing.context", "ForkServerContext", "workers of one of several training processes"),
    ("multiprocessing.forkserver", "ensure_running", "starting the server of such workers early"),
    ("multiprocessing.resource_tracker", "ensure_running", "starting the server of such workers early"),
    ("timm.optim._optim_factory", "list_optimizers", "knowing the optimizers without loading timm"),
    ("peft.tuners.lora", "LoraLayer.get_base_layer", "adding the updates to the weights"),
]


def gone(module: str, name: str, purpose: str) -> str:
    package = {"pytorch_lightning": "pytorch-lightning", "hydra": "hydra-core"}.get(module.partition(".")[0])
    package = package or module.partition(".")[0]
    if package in sys.stdlib_module_names:
        return f"Python {platform.python_version()} has no {module}.{name} any more; thawlab uses it for {purpose}"
    return f"{package} {version(package)} has no {module}.{name} any more; thawlab uses it for {purpose}"


def resolved(module: str, name: str) -> bool:
    try:
        found = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return False
    return True


@pytest.mark.parametrize(
    ("module", "name", "purpose"),
    [*((*where, purpose) for where, (_, purpose) in PRIVATE.items()), *UNDOCUMENTED],
    ids=lambda value: value.rpartition(".")[2] if " " not in value else "",
)
def test_a_name_that_no_one_promises_is_still_there(module, name, purpose):
    assert resolved(module, name), gone(module, name, purpose)


def test_no_other_private_name_is_used():
    found = {(name, file) for file, text in sources() for name in private_names(ast.parse(text))}
    known = {(name.rpartition(".")[2], file) for (_, name), (file, _) in PRIVATE.items()} | set(OTHERS.items())
    assert {each for each in found if each[0].startswith("_")} == {each for each in known if each[0].startswith("_")}


def sources():
    return [(path.relative_to(SOURCE).as_posix(), path.read_text(encoding="utf-8")) for path in SOURCE.rglob("*.py")]


def private_names(tree):
    """Names with an underscore that are not the file's own: imported, or taken of anything but self."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names = [each.name for each in node.names]
            yield from names if "._" in (node.module or "") else filter(is_private, names)
        elif isinstance(node, ast.Attribute) and is_private(node.attr):
            own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            if not own or node.attr == "_get_header_dict":
                yield node.attr


def is_private(name):
    return name.startswith("_") and not name.startswith("__")


def test_the_optimizer_has_a_step_under_its_wrapping_and_the_mark_that_a_scaler_reads():
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(2))], fused=True)
    step = type(optimizer).step
    assert step.hooked, (
        "torch wraps an optimizer's step otherwise now; see _unwrapped_step in training/feature_steps.py"
    )
    assert callable(step.__wrapped__)
    assert optimizer._step_supports_amp_scaling, "torch marks a fused optimizer otherwise; see training/optimizers.py"


def test_lightning_counts_epochs_and_steps_where_they_are_read():
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    used = {
        "callbacks": "callbacks_of in training/trainer.py",
        "fit_loop.epoch_progress.current.processed": "training/phase_records.py",
        "fit_loop.epoch_loop.manual_optimization.optim_step_progress.increment_ready": "training/feature_steps.py",
        "fit_loop.setup_data": "training/feature_steps.py",
        "precision_plugin.forward_context": "training/fit.py",
    }
    for name, user in used.items():
        found = trainer
        for part in name.split("."):
            assert hasattr(found, part), f"pytorch-lightning {pl.__version__} has no trainer.{name}; see {user}"
            found = getattr(found, part)
