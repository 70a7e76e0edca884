from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from croco3d.geometry import (
    depth_to_pointmap,
    intrinsics_matrix,
    pose_from_parts,
    transform_points,
)
from croco3d.losses import (
    AttentionSupervisionLoss,
    ConfidenceLoss,
    MaskedPixelLoss,
    MatchingLoss,
    PointmapLoss,
    RayLoss,
    StereoTarget,
)
from croco3d.losses.matching import true_matches

HEIGHT, WIDTH, PATCH = 32, 48, 8
GRID = (HEIGHT // PATCH, WIDTH // PATCH)
TOKENS = GRID[0] * GRID[1]
CAMERA = intrinsics_matrix(torch.tensor(40.0), torch.tensor([23.5, 15.5]))
NORM_MODES = ["avg_dis", "median_dis", "sqrt_dis", "avg_log1p", "avg_warp-log1p", None]


def pose(angle, shift):
    turn = Rotation.from_euler("y", angle, degrees=True).as_matrix()
    return pose_from_parts(torch.from_numpy(turn).float(), torch.tensor(shift))


@pytest.fixture
def target():
    """Two cameras side by side before one slanted plane, so that true matches are known."""
    world = pose(30.0, [1.0, 2.0, 3.0])
    second = world @ pose(0.0, [0.8, 0.0, 0.0])
    depth = torch.full((2, HEIGHT, WIDTH), 4.0)
    cameras = CAMERA.expand(2, 3, 3)
    poses1, poses2 = world.expand(2, 4, 4), second.expand(2, 4, 4)
    valid = torch.ones(2, HEIGHT, WIDTH, dtype=torch.bool)
    valid[1, :5] = False
    return StereoTarget(
        depth_to_pointmap(depth, cameras, poses1),
        depth_to_pointmap(depth, cameras, poses2),
        poses1,
        valid,
        valid.clone(),
        cam2world2=poses2,
        intrinsics2=cameras,
    )


def predict(target, noise=0.3, scale=1.0, shift=0.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    points = []
    for truth in target.in_camera1():
        moved = scale * (truth + noise * torch.randn(truth.shape, generator=generator))
        points.append((moved + torch.tensor([0.0, 0.0, shift])).requires_grad_())
    confidence = [1 + torch.rand(2, HEIGHT, WIDTH, generator=generator) for _ in range(2)]
    return SimpleNamespace(
        pointmap1=points[0],
        pointmap2=points[1],
        confidence1=confidence[0].requires_grad_(),
        confidence2=confidence[1].requires_grad_(),
    )


def total(loss, outputs, target):
    return loss(outputs, target).total.item()


@pytest.mark.parametrize("norm_mode", NORM_MODES)
def test_a_perfect_prediction_costs_nothing_in_any_world(target, norm_mode):
    loss = PointmapLoss(norm_mode)
    assert total(loss, predict(target, noise=0), target) == pytest.approx(0, abs=1e-5)
    noisy = total(loss, predict(target), target)
    move = pose(50.0, [3.0, -1.0, 2.0])
    elsewhere = replace(
        target,
        pointmap1=transform_points(move, target.pointmap1),
        pointmap2=transform_points(move, target.pointmap2),
        cam2world1=move @ target.cam2world1,
    )
    assert noisy > 0.01
    assert total(loss, predict(target), elsewhere) == pytest.approx(noisy, rel=1e-4)


@pytest.mark.parametrize(
    ("loss", "scale", "shift"),
    [
        (PointmapLoss("avg_dis"), 3.0, 0.0),
        (PointmapLoss("median_dis"), 0.2, 0.0),
        (PointmapLoss("sqrt_dis"), 3.0, 0.0),
        (PointmapLoss(None, invariance="shift"), 1.0, 2.0),
        (PointmapLoss(None, invariance="scale"), 3.0, 0.0),
        (PointmapLoss(None, gt_scale=True, invariance="scale"), 3.0, 0.0),
        (PointmapLoss(None, invariance="scale_shift"), 3.0, 2.0),
        (PointmapLoss("avg_dis", gt_scale=True, invariance="scale_shift"), 3.0, 2.0),
    ],
)
def test_what_a_loss_is_invariant_to(target, loss, scale, shift):
    plain = total(loss, predict(target), target)
    assert total(loss, predict(target, scale=scale, shift=shift), target) == pytest.approx(
        plain, rel=1e-3
    )
    unnormalised = PointmapLoss(None)
    changed = total(unnormalised, predict(target, scale=scale, shift=shift), target)
    assert changed > 1.2 * total(unnormalised, predict(target), target) or scale < 1


def test_truth_keeps_its_unit_with_gt_scale(target):
    bigger = replace(
        target,
        pointmap1=2 * target.pointmap1,
        pointmap2=2 * target.pointmap2,
        cam2world1=pose_from_parts(target.cam2world1[:, :3, :3], 2 * target.cam2world1[:, :3, 3]),
    )
    for norm_mode in ("avg_dis", None):
        loss = PointmapLoss(norm_mode, gt_scale=True, invariance="scale")
        outputs = predict(target)
        ratio = total(loss, outputs, bigger) / total(loss, outputs, target)
        assert ratio == pytest.approx(2.0, rel=1e-4)


def test_views_are_averaged_over_valid_pixels_then_added(target):
    outputs = predict(target)
    result = PointmapLoss(None)(outputs, target)
    means = []
    for view, truth in zip((1, 2), target.in_camera1(), strict=True):
        distance = (getattr(outputs, f"pointmap{view}") - truth).detach().numpy()
        valid = getattr(target, f"valid{view}").numpy()
        means.append(np.linalg.norm(distance, axis=-1)[valid].mean())
        assert result.parts[f"pointmap{view}"].item() == pytest.approx(means[-1], rel=1e-5)
    assert result.total.item() == pytest.approx(sum(means), rel=1e-5)
    assert not any(part.requires_grad for part in result.parts.values())


@pytest.mark.parametrize("norm_mode", NORM_MODES)
@pytest.mark.parametrize("invariance", [None, "scale_shift"])
def test_nothing_invalid_reaches_value_or_gradient(target, norm_mode, invariance):
    """No valid pixel in one pair, NaN in the truth and infinities in the prediction there."""
    target.valid1[0] = False
    target.valid2[0] = False
    target.pointmap1[~target.valid1] = torch.nan
    target.pointmap2[~target.valid2] = torch.inf
    outputs = predict(replace(target, pointmap1=target.pointmap1.nan_to_num()))
    with torch.no_grad():
        outputs.pointmap1[~target.valid1] = torch.inf
    loss = ConfidenceLoss(PointmapLoss(norm_mode, invariance=invariance))
    result = loss(outputs, target)
    result.total.backward()
    assert result.total.isfinite()
    for tensor in vars(outputs).values():
        assert tensor.grad.isfinite().all()
        assert (tensor.grad[0] == 0).all()
        assert (tensor.grad[1] != 0).any()


def test_a_batch_without_any_valid_pixel_gives_zero_with_gradient(target):
    target.valid1[:] = False
    target.valid2[:] = False
    result = ConfidenceLoss()(predict(target), target)
    result.total.backward()
    assert result.total.item() == 0


def test_a_prediction_at_the_origin_has_finite_gradients(target):
    for norm_mode in NORM_MODES:
        zero = SimpleNamespace(
            pointmap1=torch.zeros_like(target.pointmap1, requires_grad=True),
            pointmap2=torch.zeros_like(target.pointmap2, requires_grad=True),
        )
        PointmapLoss(norm_mode)(zero, target).total.backward()
        assert zero.pointmap1.grad.isfinite().all()


def test_autocast_and_half_precision_outputs_are_computed_in_single_precision(target):
    loss = ConfidenceLoss(PointmapLoss("avg_log1p"))
    outputs = predict(target)
    plain = loss(outputs, target).total
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss(outputs, target).total
    assert torch.equal(plain, inside)
    halved = SimpleNamespace(**{k: v.detach().bfloat16() for k, v in vars(outputs).items()})
    rounded = loss(halved, target).total
    assert rounded.dtype == torch.float32
    assert rounded.item() == pytest.approx(plain.item(), rel=1e-2)


def test_the_best_confidence_is_alpha_over_the_error(target):
    outputs = predict(target, noise=0.5)
    errors = PointmapLoss().pixel_errors(outputs, target)
    loss = ConfidenceLoss(alpha=0.3)
    for view, error in zip((1, 2), errors, strict=True):
        setattr(outputs, f"confidence{view}", (0.3 / error.clamp(min=1e-6)).detach())
    best = total(loss, outputs, target)
    for factor in (0.8, 1.25):
        other = SimpleNamespace(
            pointmap1=outputs.pointmap1,
            pointmap2=outputs.pointmap2,
            confidence1=factor * outputs.confidence1,
            confidence2=factor * outputs.confidence2,
        )
        assert total(loss, other, target) > best


def test_losses_add_up_with_weights(target):
    outputs = predict(target)
    first, second = ConfidenceLoss(), PointmapLoss(None)
    both = (first + 0.2 * second)(outputs, target)
    expected = total(first, outputs, target) + 0.2 * total(second, outputs, target)
    assert both.total.item() == pytest.approx(expected, rel=1e-6)
    assert set(both.parts) == {
        *("confidence1", "confidence2", "pointmap1", "pointmap2"),
        *("pointmap1_2", "pointmap2_2"),
    }
    doubled = 2 * (first + second * 0.0)
    assert total(doubled, outputs, target) == pytest.approx(2 * total(first, outputs, target))
    assert "pointmap1_2" not in doubled(outputs, target).parts


def test_bad_settings_and_inputs_are_refused(target):
    outputs = predict(target)
    with pytest.raises(ValueError, match="'mean'"):
        PointmapLoss("mean")
    with pytest.raises(ValueError, match="'rotation'"):
        PointmapLoss(invariance="rotation")
    with pytest.raises(ValueError, match="alpha"):
        ConfidenceLoss(alpha=0.0)
    outputs.confidence2 = None
    with pytest.raises(ValueError, match="confidence2"):
        ConfidenceLoss()(outputs, target)
    outputs.pointmap1 = outputs.pointmap1[:, :-1]
    with pytest.raises(ValueError, match="pointmap1 is predicted as"):
        PointmapLoss()(outputs, target)


def test_target_is_read_from_a_batch(target):
    batch = vars(target) | {"pixel_values1": torch.zeros(2, 3, HEIGHT, WIDTH)}
    assert StereoTarget.from_batch(batch).cam2world2 is target.cam2world2
    five = {k: vars(target)[k] for k in list(vars(target))[:5]}
    assert StereoTarget.from_batch(five).camera2_in_camera1() is None


def test_masked_pixels_only_count_where_hidden():
    prediction, truth = torch.zeros(1, 4, 12), torch.ones(1, 4, 12)
    truth[:, 0] = 5.0
    mask = torch.tensor([[False, True, True, False]])
    loss = MaskedPixelLoss(norm_pix=False)
    assert loss(prediction, truth, mask).total.item() == pytest.approx(1.0)
    assert loss(prediction, truth, mask & False).total.item() == 0
    flat = MaskedPixelLoss()(prediction, truth, mask).total
    assert flat.item() == pytest.approx(0.0)
    with pytest.raises(ValueError, match="mask"):
        loss(prediction, truth)
    with pytest.raises(ValueError, match="predicted as"):
        loss(prediction[:, :3], truth, mask)


def attend(logits1, logits2):
    return SimpleNamespace(
        pointmap1=None,
        pointmap2=None,
        cross_attentions1=tuple(logit.softmax(-1) for logit in logits1),
        cross_attentions2=tuple(logit.softmax(-1) for logit in logits2),
    )


def random_logits(layers=3, heads=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (2, heads, TOKENS, TOKENS)
    return [torch.randn(shape, generator=generator).requires_grad_() for _ in range(layers)]


def test_attention_targets_match_a_written_out_computation(target):
    """Patch centres and cameras known in closed form, the definition in NumPy."""
    loss = AttentionSupervisionLoss(patch_size=PATCH, cutoff=0.1)
    target.valid1[:] = target.valid2[:] = True
    rows, columns = np.indices(GRID) * PATCH + PATCH // 2
    centres = 4 * np.stack(((columns - 23.5) / 40, (rows - 15.5) / 40, np.ones(GRID)), -1)
    centres = centres.reshape(-1, 3)
    others = centres + [0.8, 0, 0]
    for own, seen, camera, view in ((centres, others, 0.0, 1), (others, centres, 0.8, 2)):
        distance = np.linalg.norm(own[:, None] - seen, axis=-1)
        reach = np.linalg.norm(own - [camera, 0, 0], axis=-1)[:, None]
        soft = np.exp(-((distance / (0.12 * reach)) ** 2))
        soft /= soft.sum(1, keepdims=True)
        kept = (distance < 0.1 * reach).any(1)
        assert 0 < kept.sum() < TOKENS
        logits1, logits2 = random_logits(seed=1), random_logits(seed=2)
        outputs = attend(logits1, logits2)
        result = loss(
            outputs, replace(target, valid1=target.valid1 | True, valid2=target.valid2 | True)
        )
        entropy = []
        for attention in getattr(outputs, f"cross_attentions{view}")[1:]:
            log = attention[:, :2].detach().log().numpy()
            entropy.append(-(soft * log).sum(-1)[..., kept].mean())
        assert result.parts[f"attention{view}"].item() == pytest.approx(np.mean(entropy), rel=1e-4)


def test_attention_loss_reaches_only_the_chosen_heads_and_layers(target):
    logits1, logits2 = random_logits(), random_logits(seed=1)
    loss = AttentionSupervisionLoss(patch_size=PATCH, layers=(-1, 1), heads=(3,))
    loss(attend(logits1, logits2), target).total.backward()
    for logits in (logits1, logits2):
        assert logits[0].grad is None
        for layer in (1, 2):
            assert logits[layer].grad[:, :3].abs().max() == 0
            assert logits[layer].grad[:, 3].abs().max() > 0


def test_descending_the_attention_loss_finds_the_true_patches(target):
    loss = AttentionSupervisionLoss(patch_size=PATCH, temperature=0.05)
    logits = [random_logits(2), random_logits(2, seed=1)]
    chosen = [logits[0][1], logits[1][1]]
    start = loss(attend(*logits), target)
    for _ in range(60):
        gradients = torch.autograd.grad(loss(attend(*logits), target).total, chosen)
        with torch.no_grad():
            for logit, gradient in zip(chosen, gradients, strict=True):
                logit -= 500 * gradient
    end = loss(attend(*logits), target)
    assert end.parts["attention_mass1"] > 0.95 > 2 * start.parts["attention_mass1"]
    # The second camera stands one patch spacing (0.8 of 4 units) to the right.
    best = chosen[0][0, 0].argmax(-1).view(GRID)
    patches = torch.arange(TOKENS).view(GRID)
    assert torch.equal(best[:, 1:], patches[:, :-1])


def test_patches_without_truth_or_counterpart_are_left_out(target):
    outputs = attend(random_logits(), random_logits(seed=1))
    loss = AttentionSupervisionLoss(patch_size=PATCH)
    target.valid1[:] = False
    result = loss(outputs, target)
    assert result.total.item() == 0
    far = replace(target, valid1=target.valid2, pointmap2=target.pointmap2 + 100)
    assert loss(outputs, far).total.item() == 0


def test_transposed_storage_gives_the_same_attention_targets(target):
    """A portrait view stored lying: its tokens are in true orientation, its pixels are not."""
    square = replace(target, valid1=target.valid1 | True, valid2=target.valid2 | True)
    upright = {
        f"{name}{view}": getattr(square, f"{name}{view}").transpose(1, 2)
        for name in ("pointmap", "valid")
        for view in (1, 2)
    }
    shape = torch.tensor([[HEIGHT, WIDTH]]).expand(2, 2)
    stored = replace(square, **upright, true_shape1=shape, true_shape2=shape)
    outputs = attend(random_logits(), random_logits(seed=1))
    loss = AttentionSupervisionLoss(patch_size=PATCH)
    assert total(loss, outputs, stored) == pytest.approx(total(loss, outputs, square), rel=1e-6)
    wrong = replace(stored, true_shape1=None, true_shape2=None)
    assert total(loss, outputs, wrong) != pytest.approx(total(loss, outputs, square), rel=1e-3)


def test_attention_loss_refuses_what_does_not_fit(target):
    outputs = attend(random_logits(), random_logits())
    with pytest.raises(ValueError, match="Layers"):
        AttentionSupervisionLoss(patch_size=PATCH, layers=(3,))(outputs, target)
    with pytest.raises(ValueError, match="Heads"):
        AttentionSupervisionLoss(patch_size=PATCH, heads=(4,))(outputs, target)
    with pytest.raises(ValueError, match="patches of size 16"):
        AttentionSupervisionLoss(patch_size=16)(outputs, target)
    with pytest.raises(ValueError, match="patches of 7"):
        AttentionSupervisionLoss(patch_size=7)(outputs, target)
    with pytest.raises(ValueError, match="output_attentions"):
        AttentionSupervisionLoss(patch_size=PATCH)(predict(target), target)
    with pytest.raises(ValueError, match="one head"):
        AttentionSupervisionLoss(heads=())
    with pytest.raises(ValueError, match="cutoff"):
        AttentionSupervisionLoss(cutoff=0.0)


def describe(target, dimensions=24):
    """Descriptors that name the surface point a pixel sees: perfect for matching."""
    generator = torch.Generator().manual_seed(0)
    mixing = 20 * torch.randn(3, dimensions, generator=generator)
    maps = [torch.nn.functional.normalize((p @ mixing).sin(), dim=-1) for p in target.in_camera1()]
    return SimpleNamespace(descriptors1=maps[0], descriptors2=maps[1])


@pytest.mark.parametrize("cameras", [True, False])
def test_sampled_correspondences_are_true(target, cameras):
    known = target if cameras else replace(target, cam2world2=None)
    found = MatchingLoss(samples=200).sample(known)
    assert found.valid.all()
    first = known.pointmap1.flatten(1, 2).gather(1, found.index1[..., None].expand(-1, -1, 3))
    second = known.pointmap2.flatten(1, 2).gather(1, found.index2[..., None].expand(-1, -1, 3))
    torch.testing.assert_close(first, second, atol=1e-3, rtol=0)
    assert all(len(row.unique()) == 200 for row in found.index1)
    assert known.valid1.flatten(1).gather(1, found.index1).all()
    everything = true_matches(known, 0.02)[0].view(HEIGHT, WIDTH)
    # The shift is 40 px * 0.8 / 4 = 8 px.
    assert torch.equal(everything >= 0, (torch.arange(WIDTH) >= 8).expand(HEIGHT, WIDTH))


def test_matching_loss_prefers_true_matches(target):
    torch.manual_seed(0)
    loss = MatchingLoss(samples=128)
    good = loss(describe(target), target)
    random = describe(target)
    random.descriptors2 = random.descriptors2.flip(1)
    bad = loss(random, target)
    assert good.parts["matching_accuracy"] > 0.99
    assert bad.parts["matching_accuracy"] < 0.2
    assert good.total < 0.5 * bad.total


def test_matching_loss_equals_cross_entropy_written_out(target):
    loss = MatchingLoss(samples=50, temperature=0.2)
    outputs = describe(target)
    torch.manual_seed(3)
    found = loss.sample(target)
    torch.manual_seed(3)
    value = loss(outputs, target).total.item()
    entropies = []
    for pair in range(2):
        first = outputs.descriptors1[pair].flatten(0, 1)[found.index1[pair]].double()
        second = outputs.descriptors2[pair].flatten(0, 1)[found.index2[pair]].double()
        score = np.exp((first @ second.T).numpy() / 0.2)
        right = np.diag(score)
        entropies.append(-np.log(right / score.sum(1)) - np.log(right / score.sum(0)))
    assert value == pytest.approx(np.mean(entropies) / 2, rel=1e-4)


def test_descriptor_confidence_weighs_matches(target):
    loss = MatchingLoss(samples=64, alpha=0.5)
    outputs = describe(target)
    torch.manual_seed(0)
    plain = loss(outputs, target)
    outputs.descriptor_confidence1 = torch.full((2, HEIGHT, WIDTH), 4.0)
    outputs.descriptor_confidence2 = torch.full((2, HEIGHT, WIDTH), 9.0)
    torch.manual_seed(0)
    weighted = loss(outputs, target)
    assert weighted.total.item() == pytest.approx(
        6 * plain.total.item() - 0.5 * np.log(6), rel=1e-4
    )
    assert weighted.parts["matching"].item() == pytest.approx(plain.total.item(), rel=1e-5)


def test_pairs_without_overlap_cost_nothing(target):
    apart = replace(target, pointmap2=target.pointmap2 + 100)
    outputs = describe(target)
    outputs.descriptors1.requires_grad_()
    result = MatchingLoss(samples=32)(outputs, apart)
    result.total.backward()
    assert result.total.item() == 0
    assert outputs.descriptors1.grad.isfinite().all()
    with pytest.raises(ValueError, match="descriptors1"):
        MatchingLoss()(predict(target), target)
    with pytest.raises(ValueError, match="samples"):
        MatchingLoss(samples=0)


def test_rays_are_compared_by_their_angle_whatever_the_range(target):
    outputs = predict(target)
    result = RayLoss()(outputs, target)
    for part, predicted, true, valid in zip(
        ("ray1", "ray2"),
        (outputs.pointmap1, outputs.pointmap2),
        target.in_camera1(),
        (target.valid1, target.valid2),
        strict=True,
    ):
        angle = torch.arccos(torch.cosine_similarity(predicted, true, dim=-1).double())
        chord = 2 * (angle / 2).sin()
        assert result.parts[part].item() == pytest.approx(chord[valid].mean().item(), rel=1e-4)
    assert total(RayLoss(), predict(target, scale=7.0), target) == pytest.approx(
        result.total.item(), rel=1e-5
    )
    assert total(RayLoss(), predict(target, noise=0), target) == pytest.approx(0, abs=1e-6)


def test_ray_gradients_move_points_sideways_and_only_where_the_truth_is_known(target):
    outputs = predict(target)
    outputs.pointmap1.data[1, 0, 0] = torch.nan
    RayLoss()(outputs, target).total.backward()
    gradient, points = outputs.pointmap1.grad, outputs.pointmap1.detach()
    assert gradient.isfinite().all()
    assert not gradient[~target.valid1].any()
    along = (gradient * points).sum(-1)[target.valid1]
    assert along.abs().max() < 1e-6
    assert gradient[target.valid1].norm(dim=-1).min() > 0


def test_rays_need_pointmaps_of_the_truth_s_shape(target):
    outputs = predict(target)
    outputs.pointmap2 = outputs.pointmap2[:, :-1]
    with pytest.raises(ValueError, match="pointmap2 is predicted as"):
        RayLoss()(outputs, target)
    outputs.pointmap1 = None
    with pytest.raises(ValueError, match="no pointmap1"):
        RayLoss()(outputs, target)
