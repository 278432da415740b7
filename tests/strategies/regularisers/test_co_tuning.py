import numpy as np
import pytest
import torch
from starts import (
    SOURCE_CLASSES,
    features_of,
    hooks,
    images,
    labels,
    settings,
    start_of,
    step,
    with_source_classifier,
)

from small_fits import CLASSES, small
from thawlab.strategies.regularisers.co_tuning import create, learn_relation


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def source_shares(model, classifier, batch) -> np.ndarray:
    """Softmax of W·f + b, in numpy."""
    features = features_of(model, batch).detach().double().numpy()
    return softmax(features @ classifier["weight"].double().numpy().T + classifier["bias"].double().numpy())


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_efficientnet"])
def test_the_relation_is_the_mean_of_the_sources_answers_for_each_class(name: str):
    model = small(name).train()
    classifier = with_source_classifier(model)
    relation = learn_relation(start_of(model, source_classifier=classifier)).numpy()
    assert model.training
    shares = source_shares(model.eval(), classifier, torch.cat([images(4), images(3, seed=1)]))
    answers = np.concatenate([labels(4), labels(3)])
    expected = np.stack([shares[answers == each].mean(axis=0) for each in range(len(CLASSES))])
    assert relation.shape == (len(CLASSES), SOURCE_CLASSES)
    np.testing.assert_allclose(relation, expected, rtol=1e-4)
    np.testing.assert_allclose(relation.sum(axis=1), 1, rtol=1e-6)


def test_a_class_without_training_images_looks_like_all_source_classes_alike():
    model = small("test_resnet")
    classifier = with_source_classifier(model)
    start = start_of(model, batches=[(images(2), torch.tensor([0, 1]))], source_classifier=classifier)
    assert learn_relation(start)[2].tolist() == pytest.approx([1 / SOURCE_CLASSES] * SOURCE_CLASSES)


def test_a_source_classifier_may_lack_a_bias():
    model = small("test_resnet").eval()
    classifier = with_source_classifier(model)
    zero = {**classifier, "bias": torch.zeros(SOURCE_CLASSES)}
    without = {"weight": classifier["weight"]}
    found = [learn_relation(start_of(model, source_classifier=each)) for each in (zero, without)]
    torch.testing.assert_close(found[0], found[1])


def test_the_term_is_the_cross_entropy_of_the_source_classifier_with_the_relations_rows():
    model = small("test_resnet").eval()
    classifier = with_source_classifier(model)
    term = create(settings(strength=2.3), start_of(model, source_classifier=classifier))
    relation = term.relation.double().numpy()
    with torch.no_grad():  # trained since
        model.source_classifier.weight *= 1.5  # type: ignore[operator,union-attr]
        classifier["weight"] *= 1.5
    logs = np.log(source_shares(model, classifier, images()))
    plain = -2.3 * (relation[labels().numpy()] * logs).sum(axis=1).mean()
    assert np.isclose(step(model, term).item(), plain, rtol=1e-5)

    shares = torch.tensor([[0.5, 0.5, 0.0]] * 4)
    mixed = -2.3 * (shares.double().numpy() @ relation * logs).sum(axis=1).mean()
    assert np.isclose(step(model, term, targets=shares).item(), mixed, rtol=1e-5)


def test_its_gradient_reaches_source_classifier_and_backbone_but_not_the_head_under_autocast():
    model = small("test_resnet").train()
    term = create(settings(strength=1.0), start_of(model, source_classifier=with_source_classifier(model)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = step(model, term)
    assert value.dtype == torch.float32
    value.backward()
    reached = {name.split(".")[0] for name, each in model.named_parameters() if each.grad is not None}
    assert reached == {name.split(".")[0] for name, _ in model.named_parameters()} - {"fc"}


def test_two_made_from_the_same_start_are_equal_and_leave_no_trace():
    model = small("test_efficientnet")
    state = {name: value.clone() for name, value in model.state_dict().items()}
    start = start_of(model, source_classifier=with_source_classifier(model))
    first, second = create(settings(strength=1.0), start), create(settings(strength=1.0), start)
    assert torch.equal(first.relation, second.relation)
    first.close()
    second.close()
    assert not list(hooks(model))
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in state.items())


def test_weights_without_a_source_classifier_are_refused():
    with pytest.raises(ValueError, match=r"^strategy=some: these weights came without a classifier of their own; "):
        create(settings(strength=1.0), start_of(small("test_resnet")))
