"""Serve the app with a stand-in for the model: `python serve_stand_in.py PORT`."""

import sys

from test_app_sessions import plane_scene

from croco3d.app import Limits, launch


def stand_in(paths, model, graph):
    if len(paths) == 3:
        raise ValueError("2.png has no confident pair with any other image.")
    return plane_scene(paths, model, graph)


if __name__ == "__main__":
    launch(
        stand_in,
        models=["small/model", "large/model"],
        limits=Limits(file_megabytes=1),
        port=int(sys.argv[1]),
    )
