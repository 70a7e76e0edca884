"""`python -m croco3d.data.synthetic`: the same as `croco3d data render`."""

import typer

from croco3d.cli.data_render import render

if __name__ == "__main__":
    typer.run(render)
