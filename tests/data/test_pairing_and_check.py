"""Pairs by measured overlap, and checks that say what is wrong with a data set."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import typer
from PIL import Image
from plane_scene import plane_views
from typer.testing import CliRunner

from croco3d.cli import data as data_cli
from croco3d.data import PairSource, make_source
from croco3d.data.checking import check_source
from croco3d.data.contact_sheet import save_contact_sheet
from croco3d.data.loading import load_frame
from croco3d.data.overlap import find_pairs, overlap, small_view
from croco3d.data.pairing import pairs_by_pose, pairs_by_shared_points


def box_frames(shifts):
    """Cameras in a row, a unit square of view each at depth 1, so that overlap is 1 - shift."""
    frames = []
    view = plane_views(1, size=(64, 64))[0]
    for i, shift in enumerate(shifts):
        pose = np.eye(4)
        pose[0, 3] = shift
        k = np.array([[64.0, 0, 31.5], [0, 64, 31.5], [0, 0, 1]])
        flat = replace(view, depth=np.ones((64, 64)), intrinsics=k, cam2world=pose, name=f"f{i}")
        frames.append(flat)
    return frames


@pytest.mark.parametrize("shift", [0.0, 0.25, 0.5, 0.75, 1.5])
def test_overlap_is_the_share_of_surface_seen_by_both(shift):
    first, second = (small_view(load_frame(frame)) for frame in box_frames([0, shift]))
    assert overlap(first, second) == pytest.approx(max(0, 1 - shift), abs=0.02)


def test_hidden_surface_and_surface_behind_the_camera_do_not_count():
    near, far = box_frames([0, 0])
    wall = replace(near, depth=np.full((64, 64), 0.5))
    first, second = small_view(load_frame(wall)), small_view(load_frame(far))
    assert overlap(first, second) == 0
    back = np.diag([-1.0, 1, -1, 1])
    turned = small_view(load_frame(replace(far, cam2world=back)))
    assert overlap(small_view(load_frame(near)), turned) == 0


def test_find_pairs_keeps_the_range_and_limits_per_frame():
    frames = box_frames([0, 0.1, 0.5, 0.6, 3.0])
    pairs, values = find_pairs(frames, 0.2, 0.8, progress=False)
    assert pairs.tolist() == [[0, 2], [0, 3], [1, 2], [1, 3]]
    np.testing.assert_allclose(values, [0.5, 0.4, 0.6, 0.5], atol=0.02)
    few, _ = find_pairs(frames, 0.2, 0.8, per_frame=1, progress=False)
    assert few.tolist() == [[0, 2], [1, 3]]
    with pytest.raises(ValueError, match="0.9 to 0.5"):
        find_pairs(frames, 0.9, 0.5, progress=False)


def test_pairs_by_pose_respect_the_angle_and_spread_baselines():
    poses = np.stack([np.eye(4)] * 12)
    poses[:, 0, 3] = np.arange(12)
    poses[11, :3, :3] = np.diag([-1.0, 1, -1])
    pairs = pairs_by_pose(poses, max_degrees=45, neighbours=2)
    assert 11 not in pairs and len(pairs) == len({tuple(p) for p in pairs.tolist()})
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert set(np.abs(np.diff(pairs[pairs[:, 0] == 0]).ravel())) & {4, 8}
    assert pairs_by_pose(poses[:1]).shape == (0, 2)


def test_documented_examples():
    import doctest

    from croco3d.data import pairing

    result = doctest.testmod(pairing)
    assert result.failed == 0 and result.attempted == 1


def test_pairs_by_shared_points():
    points = [np.arange(10), np.arange(5, 15), np.arange(14, 20), np.array([], int)]
    assert pairs_by_shared_points(points, 0.1, 0.8).tolist() == [[0, 1], [1, 2]]
    assert pairs_by_shared_points(points, 0.3, 0.8).tolist() == [[0, 1]]


def capture(root, count=5):
    """A nerfstudio folder of the plane; each view overlaps its neighbours."""
    opengl = np.diag([1.0, -1, -1, 1])
    views = plane_views(count, size=(64, 48), step=0.4)
    k = views[0].intrinsics
    meta = {"w": 64, "h": 48, "fl_x": k[0, 0], "fl_y": k[1, 1], "frames": []}
    meta |= {"cx": k[0, 2] + 0.5, "cy": k[1, 2] + 0.5}
    for folder in ("images", "depth"):
        (root / folder).mkdir(parents=True)
    for view in views:
        Image.fromarray(view.image).save(root / f"images/{view.name}.png")
        millimetres = (view.depth * 1000).round().astype(np.uint16)
        Image.fromarray(millimetres).save(root / f"depth/{view.name}.png")
        entry = {
            "file_path": f"images/{view.name}.png",
            "depth_file_path": f"depth/{view.name}.png",
        }
        meta["frames"].append(entry | {"transform_matrix": (view.cam2world @ opengl).tolist()})
    (root / "transforms.json").write_text(json.dumps(meta))
    return root


def edit(root, change):
    path = root / "transforms.json"
    meta = json.loads(path.read_text())
    change(meta)
    path.write_text(json.dumps(meta))


def findings(root, **options):
    report = check_source(
        make_source({"reader": "nerfstudio", "root": root} | options), progress=False
    )
    return report, {(f.where, f.problem) for f in report.findings}


def test_a_good_data_set_has_no_findings(tmp_path):
    report, found = findings(capture(tmp_path / "c"))
    assert found == set()
    assert report.frames == 5 and len(report.pairs) >= 4
    assert all(one.agreement > 0.95 and abs(one.ratio - 1) < 0.02 for one in report.pairs)
    assert all(one.colours > 0.9 for one in report.pairs)


def test_every_kind_of_damage_is_found_and_named(tmp_path):
    root = capture(tmp_path / "c")
    (root / "images/view0.png").unlink()
    (root / "depth/view1.png").write_bytes((root / "depth/view1.png").read_bytes()[:200])
    Image.fromarray(np.zeros((48, 64), np.uint16)).save(root / "depth/view2.png")

    def spoil(meta):
        meta["frames"][3]["transform_matrix"][0][3] = float("nan")
        matrix = np.array(meta["frames"][4]["transform_matrix"])
        matrix[:3, :3] *= 1.5
        meta["frames"][4]["transform_matrix"] = matrix.tolist()

    edit(root, spoil)
    _, found = findings(root)
    kinds = {"view0": "unreadable", "view1": "unreadable", "view2": "depth"}
    kinds |= {"view3": "unreadable", "view4": "unreadable"}
    assert {(f"images/{name}.png", kind) for name, kind in kinds.items()} <= found


def test_wrong_units_are_called_suspicious(tmp_path):
    root = capture(tmp_path / "c")
    report, found = findings(root, depth_scale=1.0)
    assert {kind for _, kind in found} >= {"scale"}
    assert any("millimetres" in f.message for f in report.findings)


@pytest.mark.parametrize("scale", [0.25, 2.0])
def test_depth_that_contradicts_the_other_views_is_inconsistent(tmp_path, scale):
    source = make_source({"reader": "nerfstudio", "root": capture(tmp_path / "c")})
    frames = list(source.frames)
    frames[1] = replace(frames[1], depth_scale=1e-3 * scale)
    source = PairSource("scaled", frames, np.array([[1, 2], [2, 3]]))
    report = check_source(source, progress=False)
    assert [f.problem for f in report.findings] == ["inconsistent"]
    assert "view1" in report.findings[0].where and "depth_scale" in report.findings[0].message


def test_a_pose_in_another_convention_is_found(tmp_path):
    """World to camera where camera to world belongs: the depths of a wall still agree."""
    source = make_source({"reader": "nerfstudio", "root": capture(tmp_path / "c")})
    frames = [replace(f, cam2world=np.linalg.inv(f.cam2world)) for f in source.frames]
    report = check_source(PairSource("turned", frames, source.pairs), progress=False)
    assert "colours" in {f.problem for f in report.findings}


def test_contact_sheet_marks_points_on_the_surface(tmp_path):
    source = make_source({"reader": "nerfstudio", "root": capture(tmp_path / "c")})
    save_contact_sheet(tmp_path / "sheet.png", source, [0, 1])
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    good = (sheet == (60, 220, 90)).all(-1)
    bad = (sheet == (255, 60, 50)).all(-1)
    assert good.sum() > 500 and bad.sum() < 20
    assert good[:, : 4 * 244].sum() == 0
    depth = sheet[16:190, 2 * 244 : 2 * 244 + 200].reshape(-1, 3)
    assert len(np.unique(depth, axis=0)) > 50
    i, j = source.pairs[0]
    frames = list(source.frames)
    frames[i] = replace(frames[i], depth_scale=5e-4)
    save_contact_sheet(tmp_path / "wrong.png", replace(source, frames=frames), [0])
    sheet = np.asarray(Image.open(tmp_path / "wrong.png"))
    assert (sheet == (60, 220, 90)).all(-1).sum() < 20 < (sheet == (255, 60, 50)).all(-1).sum()
    gone = replace(source, frames=[replace(f, image=tmp_path / "no.png") for f in source.frames])
    save_contact_sheet(tmp_path / "gone.png", gone, [0])


@pytest.fixture
def run():
    app = typer.Typer()
    data_cli.register(app)
    app.callback()(lambda: None)
    return lambda *arguments: CliRunner().invoke(app, ["data", *map(str, arguments)])


@pytest.mark.parametrize("file", ["pairs.npz", "pairs.json"])
def test_pair_command_writes_what_the_reader_takes(tmp_path, run, file):
    root = capture(tmp_path / "c")
    result = run("pair", root, "--output", tmp_path / file, "--min", 0.3, "--max", 0.95)
    assert result.exit_code == 0, result.output
    assert "pairs of 5 frames" in result.output
    source = make_source({"reader": "nerfstudio", "root": root, "pairs": tmp_path / file})
    views = [small_view(load_frame(frame)) for frame in source.frames]
    for i, j in source.pairs:
        assert 0.3 <= overlap(views[i], views[j]) <= 0.95
    failed = run("pair", root, "--min", 0.99, "--max", 1.0)
    assert failed.exit_code == 1 and "lower --min" in str(failed.exception)
    assert not (root / "pairs.npz").exists()


def test_check_command_reports_and_draws(tmp_path, run):
    root = capture(tmp_path / "c")
    good = run("check", root, "--pictures", tmp_path / "p.png", "--report", tmp_path / "r.json")
    assert good.exit_code == 0, good.output
    assert "0 problems" in good.output and (tmp_path / "p.png").stat().st_size > 1000
    assert json.loads((tmp_path / "r.json").read_text())["findings"] == []
    (root / "images/view2.png").unlink()
    bad = run("check", root)
    assert bad.exit_code == 1 and "unreadable: images/view2.png" in bad.output
    # The specification of a training run, with what is for the data set itself.
    spec = tmp_path / "spec.yaml"
    entry = f"{{reader: nerfstudio, root: {root}, size: 100, crop: keep}}"
    spec.write_text(f"data:\n  train: [{entry}]\n")
    assert "unreadable: images/view2.png" in run("check", spec).output
    assert "unreadable" in run("check", root, "-o", "max_degrees=30").output
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(root / "x_1.png")
    (root / "x_2.png").write_bytes(b"not an image")
    spec.write_text(f"[{{reader: image_pairs, root: {root}}}]")
    result = run("check", spec)
    assert result.exit_code == 1 and "unreadable: x_2.png" in result.output, result.output
    shutil.rmtree(root)
    root.mkdir()
    lost = run("check", root)
    assert lost.exit_code == 1 and "--reader" in str(lost.exception)
