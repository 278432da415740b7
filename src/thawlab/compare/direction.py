"""What a metric's name says of it."""

_SHARES = ("acc", "val_acc", "acc_top5", "balanced_acc", "f1_macro", "ece")
_LOW_IS_GOOD = ("loss", "ece")


def higher_is_better(metric: str) -> bool:
    """The direction of a metric, by its name."""
    if metric.startswith("cost/"):
        return metric.endswith("per_second")
    return metric.rpartition("/")[2] not in _LOW_IS_GOOD


def is_share(metric: str) -> bool:
    """Whether a metric lies in 0…1 and is read in percent, by its name."""
    return not metric.startswith("cost/") and metric.rpartition("/")[2] in _SHARES
