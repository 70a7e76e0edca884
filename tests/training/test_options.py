from dataclasses import dataclass, field
from typing import Literal

import pytest

from croco3d.training import options
from croco3d.training.options import Choice


class Shape(Choice):
    pass


@dataclass(kw_only=True)
class Circle(Shape, name="circle"):
    radius: float


@dataclass(kw_only=True)
class Box(Shape, name="box"):
    sides: tuple[int, int] = (1, 2)


@dataclass(kw_only=True)
class Drawing:
    title: str
    colour: Literal["red", "blue"] = "red"
    shapes: list[Shape] = field(default_factory=list)
    main: Shape | None = None
    scale: float | None = None
    copies: int = 1


def parse(**raw):
    return options.parse(Drawing, {"title": "t", **raw})


def test_kinds_are_chosen_by_name():
    drawing = parse(shapes=[{"name": "circle", "radius": 2}, "box"], main={"name": "box"})
    assert drawing.shapes == [Circle(radius=2.0), Box()]
    assert isinstance(drawing.shapes[0].radius, float)
    assert drawing.main == Box()


def test_plain_form_reads_back_to_the_same():
    drawing = parse(shapes=[{"name": "box", "sides": [3, 4]}], scale=1e-4, copies=2)
    assert options.parse(Drawing, options.to_plain(drawing)) == drawing


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"copis": 2}, "copis.*did you mean 'copies'"),
        ({"shapes": [{"name": "circle", "radios": 2}]}, r"shapes\.0\.radios.*'radius'"),
        ({"shapes": [{"name": "circel"}]}, "did you mean 'circle'"),
        ({"shapes": [{"name": "circle"}]}, r"missing shapes\.0\.radius"),
        ({"shapes": [{"radius": 1}]}, "needs a 'name'"),
        ({"shapes": {"name": "box"}}, "must be a list"),
        ({"main": {"name": "box", "sides": [1, 2, 3]}}, "must be 2 values"),
        ({"main": {"name": "box", "sides": [1, 2.5]}}, "whole number"),
        ({"colour": "green"}, "one of"),
        ({"copies": 2.5}, "copies must be a whole number"),
        ({"copies": True}, "whole number"),
        ({"copies": "2"}, "whole number"),
        ({"scale": "large"}, "scale must be a number"),
        ({"title": 3}, "title must be of type str"),
    ],
)
def test_wrong_values_are_refused_by_name(raw, message):
    with pytest.raises(ValueError, match=message):
        parse(**raw)


def test_no_is_a_word_where_it_is_a_choice():
    @dataclass(kw_only=True)
    class Run:
        precision: Literal["no", "bf16"] = "bf16"

    assert options.parse(Run, {"precision": False}).precision == "no"
    with pytest.raises(ValueError, match="not True"):
        options.parse(Run, {"precision": True})
    with pytest.raises(ValueError, match="not False"):
        parse(colour=False)


def test_a_name_stands_for_one_kind():
    with pytest.raises(ValueError, match="already a kind"):

        class Another(Shape, name="box"):
            pass


def test_overrides_reach_into_lists_and_read_yaml(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("title: t\nshapes: [{name: circle, radius: 1}]\n")
    changes = ["shapes.0.radius=1e-3", "main={name: box}", "scale=null", "copies=4"]
    drawing = options.parse(Drawing, options.load(path, changes))
    assert drawing == parse(
        shapes=[{"name": "circle", "radius": 0.001}], main={"name": "box"}, copies=4
    )


@pytest.mark.parametrize("override", ["copies", "=3", "shapes.5.radius=3"])
def test_overrides_that_do_not_fit_are_refused(tmp_path, override):
    path = tmp_path / "a.yaml"
    path.write_text("title: t\nshapes: [{name: circle, radius: 1}]\n")
    with pytest.raises(ValueError, match="override"):
        options.load(path, [override])


def test_a_file_starts_from_its_base(tmp_path):
    (tmp_path / "base.yaml").write_text(
        "title: base\ncopies: 2\nmain: {name: circle, radius: 1}\nscale: 2.0\n"
    )
    (tmp_path / "same.yaml").write_text("base: base.yaml\nmain: {radius: 5}\n")
    (tmp_path / "other.yaml").write_text("base: same.yaml\nmain: {name: box}\nscale: null\n")
    same = options.parse(Drawing, options.load(tmp_path / "same.yaml"))
    assert same == Drawing(title="base", copies=2, main=Circle(radius=5.0), scale=2.0)
    other = options.parse(Drawing, options.load(tmp_path / "other.yaml"))
    assert other == Drawing(title="base", copies=2, main=Box(), scale=None)


def test_a_base_that_leads_back_is_refused(tmp_path):
    (tmp_path / "a.yaml").write_text("base: b.yaml\n")
    (tmp_path / "b.yaml").write_text("base: a.yaml\n")
    with pytest.raises(ValueError, match="its own base"):
        options.load(tmp_path / "a.yaml")


def test_nothing_is_evaluated(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("title: __import__('os').getcwd()\n")
    assert options.load(path)["title"] == "__import__('os').getcwd()"
    path.write_text("title: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(Exception, match="could not determine a constructor"):
        options.load(path)


def test_changes_name_keys():
    old, new = {"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}, "d": 4}
    assert options.changes(old, new) == ["a.c: 2 -> 3", "d: None -> 4"]
