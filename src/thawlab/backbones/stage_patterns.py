"""Which stage a parameter belongs to, by its name: timm's coarse groups, and ours where those do not serve.

Rules are written as timm writes `group_matcher(coarse=True)`, so that a rule can move between the two: a dictionary of
groups in forward order, the stem first, each a pattern or a list of (pattern, suffix). The first pattern that matches
places a parameter at (group, captured texts, suffix). Equal places form a stage, the stages sort by place, and the text
that matched is the path of the stage's module. What no pattern matches comes after the last stage.

A family has rules of ours where timm

- has none: MetaFormer and PoolFormer, PiT, RDNet, CSATv2;
- groups by a function, which gives no names: CaiT, Inception-v3, Inception-ResNet-v2;
- places a parameter elsewhere than at its first use: tokens and positions that join midway (CaiT, ConViT, VOLO, XCiT),
  rotary and relative positions made before the blocks (EVA, ViT with relative positions), norms of a stage's output
  (EfficientViM), shared encodings (CoaT), class-attention blocks (CaiT);
- takes the blocks, or layers, one by one though modules hold whole stages: CoaT, Inception-ResNet-v2, VGG, Visformer,
  VOLO;
- makes a stage of the layers between the last block and the classifier: ReXNet, SelecSLS, Xception.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

Suffix = tuple[int | str, ...]
Rules = Mapping[str, str | Sequence[tuple[str, Suffix | None]] | None]

_STAGES: Rules = {"stem": r"^stem", "stages": r"^stages\.(\d+)"}


def _vgg(model: Any) -> Rules:
    """VGG has no stem; its stages are the five blocks of convolutions that max pooling ends."""
    blocks: list[tuple[str, Suffix | None]] = []
    block = 1
    for index, layer in enumerate(model.features):
        if isinstance(layer, nn.MaxPool2d):
            block += 1
        blocks.append((rf"^features\.{index}(?=\.)", (block,)))
    return {"stem": None, "blocks": blocks}


# By the name of the model's class, or of a class that it inherits from.
_OURS: Mapping[str, Rules | Callable[[Any], Rules]] = {
    "CSATv2": _STAGES,
    "Cait": {
        "stem": r"^patch_embed|pos_embed",
        "blocks": r"^blocks\.(\d+)",
        "class_attention": [(r"^blocks_token_only\.(\d+)", None), (r"^cls_token", (0,))],
    },
    "CoaT": {
        "stem": r"^(?:patch_embed|cls_token)1",
        "serial": [(r"^serial_blocks(\d+)", None), (r"^(?:patch_embed|cls_token|cpe|crpe)(\d+)", None)],
        "parallel": r"^parallel_blocks\.(\d+)",
    },
    "ConVit": {
        "stem": r"^patch_embed|pos_embed",
        # The class token joins where the ten gated positional blocks end.
        "blocks": [(r"^blocks\.(\d+)", None), (r"^cls_token", (10,))],
    },
    "EfficientViM": {
        "stem": r"^patch_embed",
        "stages": [(r"^stages\.(\d+)", None), (r"^norm\.([012])", None)],
    },
    "Eva": {
        "stem": r"^cls_token|reg_token|pos_embed|patch_embed|norm_pre|rope",
        "blocks": r"^blocks\.(\d+)",
    },
    "InceptionResnetV2": {
        "stem": r"^conv2d_[12]",
        "convolutions": r"^conv2d_[34]\w",
        "stages": [
            (r"^mixed_5b", (1,)),
            (r"^repeat(?=\.)", (2,)),
            (r"^mixed_6a", (3,)),
            (r"^repeat_1", (4,)),
            (r"^mixed_7a", (5,)),
            (r"^repeat_2", (6,)),
        ],
    },
    "InceptionV3": {
        "stem": r"^Conv2d_[12]",
        "convolutions": r"^Conv2d_[34]\w+",
        # The auxiliary classifier, there with aux_logits=True only, reads the output of Mixed_6e.
        "modules": [(r"^Mixed_(\d)(\w)", None), (r"^AuxLogits\.conv", (6, "e"))],
    },
    "MetaFormer": _STAGES,
    "PoolingVisionTransformer": {
        "stem": r"^patch_embed|pos_embed|cls_token",
        "transformers": r"^transformers\.(\d+)",
    },
    "RDNet": {"stem": r"^stem", "dense_stages": r"^dense_stages\.(\d+)"},
    # The last of `features` is no bottleneck (conv_exp, se, …) but the convolution before the head.
    "RexNet": {"stem": r"^stem", "features": r"^features\.(\d+)(?=\.(?:conv_|se\.))"},
    "SelecSls": {"stem": r"^stem", "features": r"^features\.(\d+)"},
    "VGG": _vgg,
    "VOLO": {
        "stem": r"^patch_embed",
        # network.1 only downsamples for network.2; the positions are added between the two.
        "network": [(r"^(?:network\.1(?=\.)|pos_embed)", (2,)), (r"^network\.(\d+)", None)],
        "class_attention": [(r"^post_network\.(\d+)", None), (r"^cls_token", (0,))],
    },
    "Visformer": {
        "stem": r"^stem|patch_embed1|pos_embed1",
        "stages": r"^(?:stage|patch_embed|pos_embed)(\d+)",
    },
    "VisionTransformerRelPos": {
        "stem": r"^cls_token|patch_embed|shared_rel_pos",
        "blocks": r"^blocks\.(\d+)",
    },
    "Xception": {"stem": r"^(?:conv|bn)[12]", "blocks": r"^block(\d+)"},
    "Xcit": {
        "stem": r"^patch_embed|pos_embed",
        "blocks": r"^blocks\.(\d+)",
        "class_attention": [(r"^cls_attn_blocks\.(\d+)", None), (r"^cls_token", (0,))],
    },
}


def stage_rules(model: nn.Module) -> Rules | None:
    """Our rules for the model's family, else timm's; None if timm has none, or a function in their place."""
    for cls in type(model).__mro__:
        if ours := _OURS.get(cls.__name__):
            return ours(model) if callable(ours) else ours
    timms = getattr(model, "group_matcher", None)
    rules = timms(coarse=True) if timms else None
    return rules if isinstance(rules, Mapping) else None
