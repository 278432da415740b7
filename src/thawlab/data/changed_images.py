"""What is raised where an image is not what it was when the run began; it imports nothing, to be caught anywhere."""


class ImageChangedError(Exception):
    """A file holds other bytes than those that the run's digest stands for, or is gone; the message alone says which.

    A worker of torch's loader hands on the text of a whole traceback in the place of the message, of which the last
    part is kept.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message.rpartition("ImageChangedError: ")[2].strip())
