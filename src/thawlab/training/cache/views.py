"""How many random views of each training image are stored: what further ones bring against what they cost.

A view costs a pass of all images through the frozen stages, and its storing. So there is one for every two passes of
training, and a first run takes fewer of them than one that stores nothing; docs/linear_probe.md has what views bring in
accuracy. Their number depends on settings alone, never on how fast the machine is or on what is stored
already: a run comes out the same wherever it is repeated.
"""

from dataclasses import dataclass

from thawlab.config.schema import Cache
from thawlab.training.cache.filling import NotCachedError

MOST = 10  # a judgement: docs/linear_probe.md has what few of them bring
FEWEST = 2  # of one alone there would be no random change
_TOO_FEW = 4  # where more are wanted and do not fit


@dataclass(frozen=True)
class Views:
    """How many random views of each image; and what to say of it, if anything."""

    count: int
    said: str = ""


def choose_views(cache: Cache, passes: int, train: int, val: int, row_bytes: int) -> Views:
    """The number of views for a phase that trains on random changes to images.

    Args:
        cache: the settings.
        passes: over the training images, in the phase.
        train: training images.
        val: validation images, which are stored beside them.
        row_bytes: that one image takes.

    Raises:
        NotCachedError: so many do not fit, or would cost what they save.
    """
    if isinstance(cache.views, int):
        return Views(cache.views)
    wanted = passes if cache.views == "all" else _worthwhile(cache, passes)
    fitting = max(int(cache.max_gb * 1e9) - val * row_bytes, 0) // (train * row_bytes)
    views = min(wanted, fitting)
    if views < min(wanted, _TOO_FEW):
        raise NotCachedError(
            f"{views} of {wanted} random views of each image fit into cache.max_gb={cache.max_gb:g}, since one takes "
            f"{train * row_bytes / 1e9:.2g} GB; raise cache.max_gb, set cache.views, or use augment=none"
        )
    if cache.views == "all" or views == passes:
        return Views(views)
    return Views(
        views,
        f"{views} random views of each training image are stored for {passes} passes, and used in turn; "
        "cache.views=all stores one for each pass",
    )


def _worthwhile(cache: Cache, passes: int) -> int:
    """As many as leave a first run quicker than one without stored activations."""
    if passes > FEWEST:
        return min((passes + 1) // 2, MOST)
    if cache.name == "require":
        return passes
    each = "one pass" if passes == 1 else f"each of {passes} passes"
    raise NotCachedError(
        f"a random view of each training image for {each} would cost what it saves; cache.views=all stores them for "
        "later runs all the same"
    )
