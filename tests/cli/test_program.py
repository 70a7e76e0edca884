import subprocess
import sys

import pytest
import typer

from croco3d.cli import program
from croco3d.images import ImageError


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        program.main(list(arguments))
    streams = capsys.readouterr()
    return stopped.value.code, streams.out, streams.err


@pytest.fixture
def failing(monkeypatch):
    """A program with one command that raises what it is given."""

    def install(error):
        class Command:
            @staticmethod
            def register(app):
                @app.command("fail")
                def fail():
                    raise error

        monkeypatch.setattr(program, "COMMANDS", (Command,))
        app = program.build_app()
        app.command("other")(lambda: None)
        monkeypatch.setattr(program, "build_app", lambda: app)

    return install


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ImageError("a.jpg is empty\n(0 bytes)."), "croco3d: error: a.jpg is empty (0 bytes).\n"),
        (FileNotFoundError(2, "No such file", "b.glb"), "croco3d: error: b.glb: No such file.\n"),
        (KeyError("x"), "croco3d: error: KeyError: 'x' (--debug shows where).\n"),
        (AssertionError(), "croco3d: error: AssertionError (--debug shows where).\n"),
    ],
)
def test_errors_end_in_one_sentence(failing, capsys, error, expected):
    failing(error)
    assert run(capsys, "fail") == (1, "", expected)


def test_debug_shows_the_traceback(failing):
    failing(ImageError("a.jpg is empty."))
    for arguments in (["--debug", "fail"], ["fail", "--debug"]):
        with pytest.raises(ImageError):
            program.main(arguments)


def test_ctrl_c_ends_with_130(failing, capsys):
    failing(KeyboardInterrupt())
    code, out, err = run(capsys, "fail")
    assert (code, out) == (130, "")
    assert "Traceback" not in err


def test_wrong_usage_ends_with_2(capsys):
    code, _, err = run(capsys, "reconstrukt")
    assert code == 2
    assert "reconstruct" in err
    code, _, err = run(capsys, "reconstruct", "a.jpg", "b.jpg", "-o", "scene.xyz")
    assert code == 2
    assert ".glb, .ply, .npz" in err


def test_every_command_is_listed_and_explains_itself(capsys):
    commands = typer.main.get_command(program.build_app()).commands
    assert {"reconstruct", "demo"} <= set(commands)
    for name in commands:
        code, out, _ = run(capsys, name, "--help")
        assert code == 0
        assert "Usage: croco3d" in out


def test_help_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from croco3d.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as stop:\n    assert stop.code == 0\n"
        "heavy = {'torch', 'numpy', 'transformers', 'PIL', 'scipy', 'cv2'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


def test_module_runs_the_program():
    done = subprocess.run(
        [sys.executable, "-m", "croco3d", "--version"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.startswith("croco3d 0.")
