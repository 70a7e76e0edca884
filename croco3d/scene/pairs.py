"""Which images are shown to the network together: scene graphs as lists of ordered pairs."""

import re
from collections.abc import Iterable, Sequence, Sized

import torch
from torch import Tensor

Pair = tuple[int, int]

GRAPHS = (
    "complete",
    "swin-K (each image with the next K)",
    "logwin-K (neighbours at distances 1, 2, 4, ... 2^(K-1))",
    "oneref-I (image I with every other)",
    "retrieval-K (the K most similar by features)",
    "a list of (i, j)",
)


def make_pairs(
    images: int | Sized,
    graph: str | Iterable[Pair] = "complete",
    symmetrize: bool = True,
    prefilter: str | None = None,
    features: Tensor | None = None,
) -> list[Pair]:
    """List the ordered pairs of a scene graph.

    `swin-K` and `logwin-K` wrap around the end of the sequence unless `-noncyclic` follows. As in
    the original, a cyclic `swin-K` whose window reaches round to the image itself (`K` a multiple
    of the number of images or more) holds self pairs, and twice when symmetrised; `distinct_pairs`
    removes them. All named graphs come sorted; the user's own list keeps its order, its missing
    reverses following it.

    Args:
        images: How many images, or the images themselves.
        graph: "complete", "swin-K", "logwin-K", "oneref-I", "retrieval-K", or pairs of indices.
        symmetrize: Whether to list both orders of every pair.
        prefilter: "seqK" keeps pairs at most K apart in the sequence, "cycK" in the closed
            sequence, None keeps all.
        features: One descriptor an image, `(N, C)`, such as pooled encoder tokens; for
            "retrieval-K" only.

    Returns:
        Pairs `(i, j)`; the network returns both pointmaps in the camera of `i`.

    Raises:
        ValueError: For fewer than two images, an unknown graph or prefilter, or bad indices.

    >>> make_pairs(4, "swin-1-noncyclic", symmetrize=False)
    [(0, 1), (1, 2), (2, 3)]
    """
    count = images if isinstance(images, int) else len(images)
    if count < 2:
        raise ValueError(f"A pair needs two images, got {count}. Give at least two photographs.")
    if isinstance(graph, str):
        pairs = _named_pairs(count, graph, features)
        if symmetrize:
            pairs = pairs + [(j, i) for i, j in pairs]
        return sorted(_prefilter(pairs, prefilter, count))
    pairs = _own_pairs(count, graph)
    if symmetrize:
        pairs = list(dict.fromkeys(pairs + [(j, i) for i, j in pairs]))
    return _prefilter(pairs, prefilter, count)


def distinct_pairs(pairs: Iterable[Pair]) -> list[Pair]:
    """Drop self pairs and repetitions, keeping the order.

    >>> distinct_pairs([(0, 0), (0, 1), (1, 0), (0, 1)])
    [(0, 1), (1, 0)]
    """
    return [pair for pair in dict.fromkeys((int(i), int(j)) for i, j in pairs) if len({*pair}) > 1]


def connected_components(count: int, pairs: Iterable[Pair]) -> list[list[int]]:
    """Group images that pairs link, directly or through others.

    >>> connected_components(4, [(0, 2), (3, 1)])
    [[0, 2], [1, 3]]
    """
    parent = list(range(count))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for i, j in pairs:
        a, b = root(int(i)), root(int(j))
        parent[max(a, b)] = min(a, b)
    groups: dict[int, list[int]] = {}
    for node in range(count):
        groups.setdefault(root(node), []).append(node)
    return list(groups.values())


def check_connected(
    count: int, pairs: Iterable[Pair], names: Sequence[str] | None = None, what: str = "graph"
) -> None:
    """Refuse pairs that leave the images in several groups.

    Args:
        count: How many images.
        pairs: Pairs of image indices.
        names: Names of the images for the message; their indices when not given.
        what: What is not connected, for the message.

    Raises:
        ValueError: Naming the groups.
    """
    groups = connected_components(count, pairs)
    if len(groups) == 1:
        return
    labels = names or [str(index) for index in range(count)]
    listed = "; ".join("[" + ", ".join(labels[n] for n in group) + "]" for group in groups)
    raise ValueError(
        f"The {what} is not connected: {len(groups)} groups of images share no pair: {listed}. "
        "Add pairs between the groups (graph='complete' has all) or reconstruct each by itself."
    )


def _named_pairs(count: int, graph: str, features: Tensor | None) -> list[Pair]:
    match = re.fullmatch(r"(complete|swin|logwin|oneref|retrieval)(?:-(\d+))?(-noncyclic)?", graph)
    if not match or (match[1] == "complete" and match[2]) or (match[3] and "win" not in match[1]):
        raise ValueError(f"Unknown graph {graph!r}. Choose from: {'; '.join(GRAPHS)}.")
    kind, cyclic = match[1], match[3] is None
    number = int(match[2]) if match[2] else {"oneref": 0, "retrieval": 4}.get(kind, 3)
    if kind == "oneref":
        return _one_reference(count, number)
    if kind != "complete" and number < 1:
        raise ValueError(f"Graph {graph!r} needs a number of at least 1.")
    if kind == "complete":
        return [(i, j) for i in range(count) for j in range(i)]
    if kind == "retrieval":
        return _retrieval(count, number, features)
    if kind == "swin":
        return _window(count, range(1, number + 1), cyclic, keep_self=True)
    return _window(count, [2**n for n in range(number)], cyclic, keep_self=False)


def _window(count: int, offsets: Iterable[int], cyclic: bool, keep_self: bool) -> list[Pair]:
    pairs = set()
    for i in range(count):
        for offset in offsets:
            j = (i + offset) % count if cyclic else i + offset
            if j < count and (keep_self or j != i):
                pairs.add((min(i, j), max(i, j)))
    return sorted(pairs)


def _one_reference(count: int, reference: int) -> list[Pair]:
    if reference >= count:
        raise ValueError(
            f"Graph 'oneref-{reference}' names image {reference}, but the {count} images are "
            f"numbered 0 to {count - 1}."
        )
    return [(reference, j) for j in range(count) if j != reference]


def _retrieval(count: int, neighbours: int, features: Tensor | None) -> list[Pair]:
    """The nearest images by cosine similarity, joined by the tree of greatest similarity."""
    if features is None or features.ndim != 2 or len(features) != count:
        got = None if features is None else tuple(features.shape)
        raise ValueError(f"Graph 'retrieval-K' needs features ({count}, C), got {got}.")
    if not torch.isfinite(features).all():
        raise ValueError("Graph 'retrieval-K' got features that are not finite.")
    unit = torch.nn.functional.normalize(features.detach().double(), dim=1)
    similarity = (unit @ unit.mT).fill_diagonal_(-torch.inf)
    nearest = similarity.topk(min(neighbours, count - 1), dim=1).indices.tolist()
    pairs = {(min(i, j), max(i, j)) for i, row in enumerate(nearest) for j in row}
    ranked = sorted(
        ((i, j) for i in range(count) for j in range(i + 1, count)),
        key=lambda pair: -float(similarity[pair]),
    )
    return sorted(pairs | set(spanning_tree(count, ranked)))


def spanning_tree(count: int, ranked: Iterable[Pair]) -> list[Pair]:
    """Take pairs, best first, that join groups not yet linked (Kruskal).

    >>> spanning_tree(3, [(0, 1), (1, 0), (1, 2), (0, 2)])
    [(0, 1), (1, 2)]
    """
    group = list(range(count))
    tree = []
    for i, j in ranked:
        if group[i] != group[j]:
            old, new = group[j], group[i]
            group = [new if g == old else g for g in group]
            tree.append((i, j))
    return tree


def _own_pairs(count: int, pairs: Iterable[Pair]) -> list[Pair]:
    result = []
    for pair in pairs:
        members = tuple(int(index) for index in pair)
        if len(members) != 2 or members[0] == members[1]:
            raise ValueError(f"A pair must be two different image indices, got {pair}.")
        if min(members) < 0 or max(members) >= count:
            raise ValueError(
                f"Pair {pair} is out of range: the {count} images are numbered 0 to {count - 1}."
            )
        result.append(members)
    if not result:
        raise ValueError("The list of pairs is empty.")
    return list(dict.fromkeys(result))


def _prefilter(pairs: list[Pair], prefilter: str | None, count: int) -> list[Pair]:
    if prefilter is None:
        return pairs
    match = re.fullmatch(r"(seq|cyc)(\d+)", prefilter)
    if not match:
        raise ValueError(f"Unknown prefilter {prefilter!r}. Choose 'seqK', 'cycK' or None.")
    reach = int(match[2])

    def near(i: int, j: int) -> bool:
        gap = abs(i - j)
        return (min(gap, count - gap) if match[1] == "cyc" else gap) <= reach

    return [(i, j) for i, j in pairs if near(i, j)]
