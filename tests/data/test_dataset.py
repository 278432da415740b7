import random

import numpy as np
import torch

from thawlab.data.dataset import AugmentedDataset, ImageDataset, randomness


def draw(image) -> torch.Tensor:
    """A transform that uses all three sources of randomness."""
    return torch.tensor([random.random(), np.random.rand(), float(torch.rand(())), float(np.asarray(image)[0, 0, 0])])


def test_a_sample_is_the_image_its_label_and_its_position(make_split):
    image, label, index = ImageDataset(make_split(5), draw)[4]
    assert image[3] == float(np.asarray(make_split(5).read(4))[0, 0, 0])
    assert (label, index) == (1, 4)


def test_randomness_depends_on_seed_epoch_and_position_alone(make_split):
    images = ImageDataset(make_split(5), draw)
    first = AugmentedDataset(images, seed=0)[(1, 2)][0]
    random.seed(99), np.random.seed(99), torch.manual_seed(99)
    assert torch.equal(AugmentedDataset(images, seed=0)[(1, 2)][0], first)
    others = [AugmentedDataset(images, seed=s)[(e, i)][0] for s, e, i in [(1, 1, 2), (0, 2, 2), (0, 1, 3)]]
    assert all((first[:3] != other[:3]).all() for other in others)


def test_making_a_sample_leaves_the_generators_of_training_alone(make_split):
    dataset = AugmentedDataset(ImageDataset(make_split(5), draw), seed=0)
    random.seed(7), np.random.seed(7), torch.manual_seed(7)
    expected = [random.random(), np.random.rand(), float(torch.rand(()))]
    random.seed(7), np.random.seed(7), torch.manual_seed(7)
    dataset[(0, 0)]
    assert [random.random(), np.random.rand(), float(torch.rand(()))] == expected


def test_the_generators_are_put_back_after_a_failure():
    torch.manual_seed(7)
    before = torch.default_generator.get_state()
    try:
        with randomness(1, 2):
            torch.rand(3)
            raise OSError
    except OSError:
        pass
    assert torch.equal(torch.default_generator.get_state(), before)
