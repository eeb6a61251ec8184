"""The parts of timm and transformers that ALTA is made of.

Both libraries import torchvision when it is installed. PyPI's torchvision is built for a CUDA torch; beside
a CPU-only torch its compiled operators are absent and its import fails while it registers shape functions
for them. Declaring those operators is enough: ALTA calls none. A matching pair is left untouched.
"""

import sys

from torch import library

__all__ = [
    "Attention",
    "BertAttention",
    "BertConfig",
    "BertEmbeddings",
    "BertIntermediate",
    "BertOutput",
    "BertPredictionHeadTransform",
    "BertTokenizer",
    "Mlp",
    "PatchEmbed",
]

_declared_operators: list[library.Library] = []  # a library's declarations live as long as the object


def _make_torchvision_importable() -> None:
    try:
        import torchvision  # noqa: F401
    except ImportError:
        return  # not installed: both libraries do without
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        operators = library.Library("torchvision", "FRAGMENT")
        operators.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        operators.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared_operators.append(operators)


_make_torchvision_importable()

from timm.layers import Attention, Mlp, PatchEmbed  # noqa: E402
from transformers import BertConfig, BertTokenizer  # noqa: E402
from transformers.models.bert.modeling_bert import (  # noqa: E402
    BertAttention,
    BertEmbeddings,
    BertIntermediate,
    BertOutput,
    BertPredictionHeadTransform,
)
