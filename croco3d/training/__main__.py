"""`accelerate launch -m croco3d.training config.yaml key.sub=value ...`."""

import typer

from croco3d.cli.train import register

if __name__ == "__main__":
    app = typer.Typer(add_completion=False)
    register(app)
    app()
