import pytest

import thawlab  # noqa: F401  (its import hook lets timm import torchvision)

# isort: split
import torch

from thawlab.training.checkpoints import AtomicCheckpoints, Kept, read_whole, resumable, tensors


def keep(folder, name, epoch, best="best.ckpt"):
    callbacks = {"best": {"best_model_path": f"/elsewhere/{best}"}, "last": {"best_model_path": "/elsewhere/last.ckpt"}}
    content = {"epoch": epoch, "state_dict": {"model.weight": torch.arange(1000.0)}, "callbacks": callbacks}
    AtomicCheckpoints().save_checkpoint(content, folder / f"{name}.ckpt")
    return folder / f"{name}.ckpt"


def tear(path):
    path.write_bytes(path.read_bytes()[:2000])


def empty(path):
    path.write_bytes(b"")


def flip(path):
    content = bytearray(path.read_bytes())
    content[content.index(b"\x80\x3f")] ^= 4  # inside of a tensor: the archive's directory is whole
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [tear, empty, flip])
def test_a_damaged_checkpoint_is_told_from_a_whole_one(tmp_path, damage):
    path = keep(tmp_path, "last", 3)
    whole = read_whole(path)
    assert whole is not None
    assert whole["epoch"] == 3
    damage(path)
    assert read_whole(path) is None


def test_a_run_goes_on_from_the_latest_whole_checkpoint(tmp_path):
    assert resumable(tmp_path / "nothing").checkpoint is None
    last, best = keep(tmp_path, "last", 3), keep(tmp_path, "best", 3)
    assert resumable(tmp_path).checkpoint == last
    keep(tmp_path, "best", 4)  # killed between the two
    assert resumable(tmp_path).checkpoint == best
    keep(tmp_path, "best", 1)
    assert resumable(tmp_path).checkpoint == last
    tear(last)
    found = resumable(tmp_path)
    assert (found.checkpoint, found.damaged) == (best, ("last.ckpt",))
    empty(best)
    found = resumable(tmp_path)
    assert (found.checkpoint, found.damaged) == (None, ("last.ckpt", "best.ckpt"))


def test_a_checkpoint_whose_best_epoch_is_lost_is_not_gone_on_from(tmp_path):
    keep(tmp_path, "last", 3)
    assert resumable(tmp_path).checkpoint is None
    empty(keep(tmp_path, "best", 1))
    found = resumable(tmp_path)
    assert (found.checkpoint, found.damaged) == (None, ("best.ckpt",))


def test_which_epoch_was_best_is_known_after_the_folder_was_moved(tmp_path):
    kept = Kept(dirpath=tmp_path, filename="best", monitor="val/acc", mode="max")
    score = torch.tensor(0.75)
    state = {
        **kept.state_dict(),
        "dirpath": "/before",
        "best_model_score": score,
        "best_model_path": "/before/best.ckpt",
        "kth_best_model_path": "/before/best.ckpt",
        "best_k_models": {"/before/best.ckpt": score},
    }
    kept.load_state_dict(state)
    assert kept.best_model_score == score
    assert kept.best_model_path == str(tmp_path / "best.ckpt")
    assert kept.best_k_models == {str(tmp_path / "best.ckpt"): score}


def test_a_full_disk_is_told_as_such(tmp_path):
    class Full:
        def write(self, _content):
            raise OSError(28, "No space left on device")

        def flush(self):
            pass

    with pytest.raises(OSError, match="No space left on device"):
        tensors({"weight": torch.zeros(1000)})(Full())  # type: ignore[arg-type]
