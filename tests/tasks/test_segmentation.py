"""Segmentation: intersections over unions against confusion matrices; labels move with pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dnas.nn.initial import initialise
from dnas.spaces import DARTS, NASBench201
from dnas.tasks import Augment, Classification, Segmentation, rebuild
from dnas.testing import check_task

TASK = Segmentation((6, 8, 2), 3, (0.2, 0.4), (0.5, 0.3), class_names=("sky", "road", "car"))
LOSS = jax.jit(TASK.loss)


def batch(size, seed=0, shape=(6, 8)):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (size, *shape, 2), np.uint8)
    return {"image": images, "labels": rng.choice(np.uint8([0, 1, 2, 255]), (size, *shape))}


def answers(size, seed=1):
    rng = np.random.default_rng(seed)
    targets = rng.integers(-1, 3, (size, 6, 8))
    logits = rng.normal(size=(size, 6, 8, 3)) + 2 * np.eye(4)[targets][..., :3]
    return jnp.float32(logits), jnp.int32(targets)


def ious(taken, targets):
    """From the confusion matrix of all pixels that are not void."""
    confusion = np.zeros((3, 3))
    np.add.at(confusion, (targets[targets >= 0], taken[targets >= 0]), 1)
    overlap = np.diag(confusion)
    with np.errstate(invalid="ignore"):
        return overlap / (confusion.sum(0) + confusion.sum(1) - overlap)


def test_contract():
    check_task(TASK, batch(4))


def test_measures_are_those_of_the_confusion_matrix():
    logits, targets = answers(7)
    taken = np.asarray(logits).argmax(-1)
    loss, sums = LOSS(logits, targets)
    found, seen = TASK.metrics(sums), np.asarray(targets) >= 0
    expected = ious(taken, np.asarray(targets))
    assert found["mean_iou"] == TASK.score(sums).value == pytest.approx(expected.mean())
    assert found["pixel_accuracy"] == pytest.approx((taken == targets)[seen].mean())
    log = np.asarray(jax.nn.log_softmax(logits), np.float64)[seen]
    entropy = -log[np.arange(len(log)), np.asarray(targets)[seen]].mean()
    assert float(loss) == pytest.approx(entropy, rel=1e-5)
    assert found["loss"] == pytest.approx(entropy, rel=1e-5)
    evaluation = TASK.evaluation(sums)
    np.testing.assert_allclose(evaluation.class_ious, expected)
    assert f"road  IoU  {100 * expected[1]:.2f} %" in evaluation.format_table()


def test_batches_of_any_size_add_up_to_the_whole_set():
    """The mean of the batches' IoUs would be another number."""
    logits, targets = answers(9)
    _, whole = LOSS(logits, targets)
    parts = [LOSS(logits[some], targets[some])[1] for some in (slice(2), slice(2, 9))]
    added = jax.tree.map(lambda a, b: a + b, *parts)
    np.testing.assert_allclose(TASK.score(added), TASK.score(whole), rtol=1e-5)
    assert np.mean([TASK.score(p).value for p in parts]) != pytest.approx(TASK.score(whole).value)


def test_standard_error_is_that_of_the_bootstrap_over_images():
    logits, targets = answers(300)
    _, sums = LOSS(logits, targets)
    taken, truth = np.asarray(logits).argmax(-1), np.asarray(targets)
    overlap = np.stack([((taken == c) & (truth == c)).sum((1, 2)) for c in range(3)], 1)
    either = [((taken == c) | (truth == c)) & (truth >= 0) for c in range(3)]
    union = np.stack([x.sum((1, 2)) for x in either], 1)
    rows = np.random.default_rng(0).integers(300, size=(3000, 300))
    drawn = (overlap[rows].sum(1) / union[rows].sum(1)).mean(-1)
    assert TASK.score(sums).error == pytest.approx(drawn.std(), rel=0.06)


def test_void_and_filling_count_nothing():
    logits, targets = answers(4)
    spoiled = logits.at[2:].set(jnp.nan)
    weights = jnp.array([1.0, 1, 0, 0])
    loss, sums = LOSS(spoiled, targets, weights)
    alone, expected = LOSS(logits[:2], targets[:2])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), sums, expected)
    assert float(loss) == pytest.approx(float(alone))
    gradient = jax.grad(lambda x: TASK.loss(x, targets)[0])(logits)
    assert not gradient[targets < 0].any() and gradient[targets >= 0].any()
    nothing, sums = LOSS(logits, jnp.full_like(targets, -1))
    assert float(nothing) == 0 and np.isnan(TASK.score(sums).value)


def test_a_class_that_is_nowhere_has_no_part_in_the_mean():
    targets = jnp.array([[[0, 0, 1, 1]]])
    logits = 5 * jax.nn.one_hot(jnp.array([[[0, 1, 1, 1]]]), 3)
    task = Segmentation((1, 4, 1), 3)
    evaluation = task.evaluation(jax.jit(task.tally)(logits, targets))
    np.testing.assert_allclose(evaluation.class_ious, [1 / 2, 2 / 3, np.nan])
    assert evaluation.score.value == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert evaluation.as_dict()["class_ious"][2] is None
    assert "2  IoU      - %" in evaluation.format_table()


def test_labels_move_with_their_pixels():
    """Labels that are written in the pixels stay there; what a crop adds is void."""
    labels = batch(64, shape=(6, 8))["labels"]
    images = np.where(labels == 255, 7, 50 * (labels + 1)).astype(np.uint8)
    given = {"image": np.repeat(images[..., None], 2, -1), "labels": labels}
    task = Segmentation((6, 8, 2), 3, augment=Augment(crop_padding=3, flip=True))
    moved, targets = task.prepare(jax.random.key(0), given, True)
    bytes_ = np.rint(255 * np.asarray(moved[..., 0])).astype(int)
    expected = {0: -1, 7: -1, 50: 0, 100: 1, 150: 2}
    assert (np.vectorize(expected.get)(bytes_) == targets).all()
    assert (bytes_ == 0).any() and (bytes_ != images).any()
    still, targets = task.prepare(None, given, False)
    assert (np.rint(255 * np.asarray(still[..., 0])) == images).all()
    assert ((targets == -1) == (labels == 255)).all()


def test_cutout_hides_pixels_and_keeps_their_labels():
    task = Segmentation((6, 8, 2), 3, augment=Augment(cutout=4))
    given = batch(16)
    images, targets = task.prepare(jax.random.key(0), given, True)
    assert (targets == task.prepare(None, given, False)[1]).all()
    assert ((images == 0).all(-1).sum((1, 2)) >= 4).all()


@pytest.mark.parametrize("size", [(8, 12), (7, 9)])
def test_the_decoder_adds_scores_of_all_strides(size):
    """Each stride's scores reach every pixel; constant features give the sum of affine maps."""
    task = Segmentation((*size, 3), 4)
    decoder = initialise(task.head((2, 3, 5), rngs=nnx.Rngs(0)), nnx.Rngs(0))
    sides = [tuple(-(-side // 2**i) for side in size) for i in range(3)]
    features = tuple(
        jnp.broadcast_to(jnp.arange(1.0, c + 1), (2, *side, c))
        for side, c in zip(sides, (2, 3, 5), strict=True)
    )
    head = jax.jit(lambda features: decoder(features))
    logits = head(features)
    assert logits.shape == (2, *size, 4)
    scaled = [f[0, 0, 0] / jnp.sqrt(jnp.square(f).mean()) for f in features]
    expected = sum(scores(x) for scores, x in zip(decoder.scores, scaled, strict=True))
    np.testing.assert_allclose(logits, jnp.broadcast_to(expected, logits.shape), atol=1e-4)
    larger = head(tuple(1e4 * f for f in features))
    np.testing.assert_allclose(larger, logits, atol=1e-4)
    spot = (features[0].at[0, 1, 2].add(1.0), *features[1:])
    change = jnp.abs(head(spot) - logits).sum(-1)
    assert not change[1].any() and change[0, 1, 2] == change.max()
    assert (change > 0.1 * change.max()).sum() == 1


@pytest.mark.parametrize(
    "space",
    [NASBench201(channels=4, cells=1, nodes=2, stages=2), DARTS(channels=4, cells=3, nodes=2)],
)
def test_networks_of_cells_label_every_pixel(space):
    task = Segmentation((16, 12, 3), 5)
    genotype = space.sample(np.random.default_rng(0))
    images = jax.ShapeDtypeStruct((2, 16, 12, 3), jnp.float32)

    def network(images):
        return space.network(genotype, task, rngs=nnx.Rngs(0))(images).logits

    def supernet(images):
        mix = {n: jnp.ones((len(d.rows), len(d.options))) for n, d in space.decisions.items()}
        return space.supernet(task, rngs=nnx.Rngs(0))(images, mix)

    assert jax.eval_shape(network, images).shape == (2, 16, 12, 5)
    assert jax.eval_shape(supernet, images).shape == (2, 16, 12, 5)
    with pytest.raises(ValueError, match="auxiliary head"):
        space.network(genotype, task, rngs=nnx.Rngs(0), auxiliary=True)


def test_a_file_holds_the_task():
    assert rebuild(TASK.describe()) == TASK


def test_data_of_other_pixels_does_not_fit():
    for other, message in [
        (Segmentation((6, 8, 3), 3), "images of 'x' are 6x8x3, .* images of 6x8x2"),
        (Segmentation((6, 8, 2), 4), "'x' has 4 classes, .* tell 3 apart"),
        (Segmentation((6, 8, 2), 3, class_names=("a", "b", "c")), "class 0 of 'x' is 'a'"),
        (Classification((6, 8, 2), 3), "'x' is for classification"),
    ]:
        with pytest.raises(ValueError, match=message):
            TASK.check_fit(other, "x")
    TASK.check_fit(Segmentation((6, 8, 2), 3), "x")
    with pytest.raises(ValueError, match="classes=1: expected"):
        Segmentation((6, 8, 2), 1)
