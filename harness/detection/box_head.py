"""Second stage: class and box of each region (two shared fully connected layers)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.detection import boxes as box_ops


class BoxHead(nn.Module):
    """Class logits (the last one is background) and class-specific box deltas of K regions.

    in_channels, size: the regions' features are in_channels x size x size; fc_width: width of the two shared layers.
    stds: divisors of the deltas (dx, dy, log dw, log dh).
    """

    stds: Tensor

    def __init__(
        self,
        *,
        in_channels: int = 256,
        size: int = 7,
        fc_width: int = 1024,
        num_classes: int = 80,
        stds: Sequence[float] = (0.1, 0.1, 0.2, 0.2),
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.shared_fcs = nn.ModuleList([nn.Linear(in_channels * size**2, fc_width), nn.Linear(fc_width, fc_width)])
        self.fc_cls = nn.Linear(fc_width, num_classes + 1)
        self.fc_reg = nn.Linear(fc_width, num_classes * 4)
        self.register_buffer("stds", torch.tensor(stds, dtype=torch.float32), persistent=False)

    def init_weights(self) -> None:
        """Xavier-uniform shared layers, Normal(0, 0.01) classifier, Normal(0, 0.001) regressor, zero biases."""
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        nn.init.normal_(self.fc_cls.weight, std=0.01)
        nn.init.normal_(self.fc_reg.weight, std=0.001)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """features: K x C x size x size -> logits K x (classes + 1), deltas K x 4 classes."""
        hidden = features.flatten(1)
        for layer in self.shared_fcs:
            hidden = F.relu(layer(hidden), inplace=True)
        return self.fc_cls(hidden), self.fc_reg(hidden)

    def losses(
        self, logits: Tensor, deltas: Tensor, *, boxes: Tensor, gt_boxes: Tensor, labels: Tensor, valid: Tensor
    ) -> dict[str, Tensor]:
        """loss_cls (cross-entropy), acc (percent of regions whose best class is right) and loss_bbox (L1).

        All three are divided by the number of valid regions. boxes, gt_boxes: K x 4; labels: K, num_classes means
        background; valid: K bool.
        """
        logits, deltas = logits.float(), deltas.float()
        number = valid.sum().clamp(min=1)
        positive = valid & (labels < self.num_classes)
        cross_entropy = F.cross_entropy(logits, labels, reduction="none")
        right = (logits.argmax(dim=1) == labels) & valid

        own = labels.clamp(max=self.num_classes - 1)[:, None, None].expand(-1, 1, 4)
        delta = deltas.view(len(deltas), self.num_classes, 4).gather(1, own).squeeze(1)
        target = box_ops.encode(_or_unit(positive, boxes), _or_unit(positive, gt_boxes), stds=self.stds)
        return {
            "loss_cls": (cross_entropy * valid).sum() / number,
            "acc": right.sum() * 100.0 / number,
            "loss_bbox": ((delta - target).abs() * positive[:, None]).sum() / number,
        }


def _or_unit(positive: Tensor, boxes: Tensor) -> Tensor:
    """Boxes whose width and height are safe to divide by: other regions' become (0, 0, 1, 1)."""
    unit = torch.arange(4, device=boxes.device) >= 2
    return torch.where(positive[:, None], boxes, unit.to(boxes.dtype))
