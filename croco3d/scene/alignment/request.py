"""What can be asked of an alignment, checked before the work."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..known import KnownCamera, known_cameras

Known = KnownCamera | Mapping[int, Any] | Sequence[Any] | None
Place = int | tuple[int, float, float]
METHODS = (None, "adam", "pair")


def check_request(
    sizes: Sequence[tuple[int, int]],
    names: Sequence[str],
    method: str | None = None,
    cameras: Known = None,
    known_distance: tuple[Place, Place, float] | None = None,
) -> None:
    """Refuse what `align` could not do, before anything is predicted.

    Args:
        sizes: (width, height) of the photographs.
        names: What to call them.
        method: As of `align`, like the rest.
        cameras: What is known of the cameras.
        known_distance: A known distance.

    Raises:
        ValueError: For a method that does not fit, or known numbers that contradict each other or
            the photographs.
    """
    if method not in METHODS:
        raise ValueError(f"Unknown method {method!r}. Choose None, 'adam' or 'pair'.")
    if len(sizes) < 2 or (method == "pair" and len(sizes) != 2):
        raise ValueError(
            f"Method {method!r} got {len(sizes)} images; 'pair' needs exactly two, the others at "
            "least two."
        )
    known = known_cameras(cameras, len(sizes))
    for camera, size, name in zip(known, sizes, names, strict=True):
        camera.check_size(size, name)
    if known_distance is not None:
        _check_distance(known_distance, sizes)
        if sum(camera.cam2world is not None for camera in known) > 1:
            raise ValueError(
                "Two known poses set the scale already; leave known_distance out, or the poses."
            )


def _check_distance(known: tuple[Place, Place, float], sizes: Sequence[tuple[int, int]]) -> None:
    first, second, metres = known
    if isinstance(first, tuple) != isinstance(second, tuple):
        raise ValueError(
            f"known_distance is between two images or two pixels (image, column, row), got {first} "
            f"and {second}."
        )
    if not 0 < metres < float("inf"):
        raise ValueError(f"A known distance is a positive number of metres, got {metres}.")
    for end in (first, second):
        image, *pixel = end if isinstance(end, tuple) else (end,)
        if not 0 <= image < len(sizes):
            raise ValueError(
                f"known_distance names image {image}; they are numbered 0 to {len(sizes) - 1}."
            )
        if any(not -0.5 <= at < side - 0.5 for at, side in zip(pixel, sizes[image], strict=False)):
            width, height = sizes[image]
            raise ValueError(
                f"known_distance names pixel {tuple(pixel)} of image {image}, which has {width} x "
                f"{height} pixels. Give (column, row) of the original photograph."
            )
    if first == second:
        raise ValueError(f"known_distance needs two different places, got {first} twice.")


def between_cameras(
    known: tuple[Place, Place, float] | None,
) -> tuple[int, int, float] | None:
    """The known distance if it is one between cameras; None for pixels, or none."""
    if known is None or isinstance(known[0], tuple) or isinstance(known[1], tuple):
        return None
    return known[0], known[1], known[2]
