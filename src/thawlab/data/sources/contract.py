"""What a module `data/sources/<name>.py` provides, beside the values of its settings in `conf/dataset/<name>.yaml`.

`Settings` is read before anything else is loaded, so heavy imports stand inside the functions.
"""

from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

from thawlab.config.plugins import Plugins
from thawlab.config.schema import Section

if TYPE_CHECKING:
    import numpy as np

    from thawlab.data.images import ImageData

S = TypeVar("S", bound=Section)
S_contra = TypeVar("S_contra", bound=Section, contravariant=True)


class DatasetSource(Protocol[S]):
    """Where the images of a dataset come from."""

    @property
    def Settings(self) -> type[S]:
        """Its keys, typed; `name` is the module's name, as a Literal."""
        ...

    def load(self, settings: S, /) -> "ImageData":
        """The images, in their splits.

        Raises:
            OSError: they are not there, or may not be read.
            ValueError: they do not make up a data set.
        """
        ...


@runtime_checkable
class ChecksSettings(Protocol[S_contra]):
    """A source that can tell some mistakes before anything heavy is loaded."""

    def check(self, settings: S_contra, /) -> None:
        """Look at what is named, in no time.

        Raises:
            OSError: it is not there, or may not be read.
            ValueError: it cannot be a data set.
        """
        ...


@runtime_checkable
class HasPictures(Protocol):
    """A source whose images are no files."""

    def picture(self, sample: str, /) -> "np.ndarray | None":
        """The image with this id, (H, W) or (H, W, 3) uint8, for a report; None without one."""
        ...


SOURCES: Plugins[DatasetSource[Section]] = Plugins("dataset", "dataset.name", "thawlab.data.sources", DatasetSource)
