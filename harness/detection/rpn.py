"""Region proposal network (Ren et al. 2015) over a feature pyramid."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.detection import boxes as box_ops
from harness.detection.anchors import AnchorGenerator
from harness.detection.matcher import match
from harness.detection.nms import batched_nms
from harness.detection.pyramid import around, as_table, level_shapes
from harness.detection.sampler import Choice, Samples, random_choice, sample

SAMPLING_SALT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposals:
    """Candidate regions, best score first, in P slots an image; unused slots come last."""

    boxes: Tensor  # B x P x 4 float32; zeros in unused slots
    scores: Tensor  # B x P float32: 0 .. 1
    valid: Tensor  # B x P bool

    @classmethod
    def of(cls, boxes: Sequence[Tensor]) -> Self:
        """Given boxes (P_b x 4 an image), all with score 1."""
        padded = nn.utils.rnn.pad_sequence(list(boxes), batch_first=True)
        counts = torch.tensor([len(image) for image in boxes], device=padded.device)
        valid = torch.arange(padded.shape[1], device=padded.device) < counts[:, None]
        return cls(boxes=padded, scores=valid.to(padded.dtype), valid=valid)


class RPNHead(nn.Module):
    """Objectness and box deltas of every anchor; the losses of a sample of them; proposals.

    in_channels, feat_channels: widths of the pyramid and of the shared 3x3 convolution.
    anchor_scale: anchor size / stride; ratios: height / width; strides: one a level (pixels).
    positive_iou, negative_iou, min_positive_iou: see matcher.match.
    samples, positive_fraction: anchors an image in the losses, and the most that may be positive.
    nms_pre_train, nms_pre_test: anchors a level that enter the suppression, the best by score.
    nms_iou, max_proposals: suppression threshold within a level; proposals an image, of all levels together.
    pad_divisor: an image's own padding (recipes: to multiples of 32); anchors beyond it take no part in the losses.
    choose: the choice among candidates, random unless a test says otherwise.
    compact: suppress each image and level by itself, which waits for the device each time; None: on a CPU only.
    """

    def __init__(
        self,
        *,
        in_channels: int = 256,
        feat_channels: int = 256,
        anchor_scale: float = 8,
        ratios: Sequence[float] = (0.5, 1.0, 2.0),
        strides: Sequence[int] = (4, 8, 16, 32, 64),
        positive_iou: float = 0.7,
        negative_iou: float = 0.3,
        min_positive_iou: float = 0.3,
        samples: int = 256,
        positive_fraction: float = 0.5,
        nms_pre_train: int = 2000,
        nms_pre_test: int = 1000,
        nms_iou: float = 0.7,
        max_proposals: int = 1000,
        pad_divisor: int = 32,
        choose: Choice = random_choice,
        compact: bool | None = None,
    ) -> None:
        super().__init__()
        self.anchors = AnchorGenerator(scale=anchor_scale, ratios=ratios, strides=strides)
        self.rpn_conv = nn.Conv2d(in_channels, feat_channels, 3, padding=1)
        self.rpn_cls = nn.Conv2d(feat_channels, len(ratios), 1)
        self.rpn_reg = nn.Conv2d(feat_channels, len(ratios) * 4, 1)
        self.positive_iou, self.negative_iou, self.min_positive_iou = positive_iou, negative_iou, min_positive_iou
        self.samples, self.positive_fraction, self.choose = samples, positive_fraction, choose
        self.nms_pre_train, self.nms_pre_test = nms_pre_train, nms_pre_test
        self.nms_iou, self.max_proposals = nms_iou, max_proposals
        self.pad_divisor, self.compact = pad_divisor, compact

    def init_weights(self) -> None:
        """Normal(0, 0.01) weights, zero biases."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                nn.init.normal_(layer.weight, std=0.01)
                nn.init.zeros_(layer.bias)

    def forward(self, features: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Logits (B x A x h x w) and deltas (B x 4A x h x w) of each level, A anchors a position."""
        logits, deltas = [], []
        for feature in features:
            hidden = F.relu(self.rpn_conv(feature), inplace=True)
            logits.append(self.rpn_cls(hidden))
            deltas.append(self.rpn_reg(hidden))
        return logits, deltas

    def losses(
        self, features: Sequence[Tensor], *, gt_boxes: Tensor, gt_valid: Tensor, sizes: Tensor, seeds: Tensor
    ) -> dict[str, Tensor]:
        """loss_rpn_cls (binary cross-entropy) and loss_rpn_bbox (L1), both over the number of sampled anchors.

        The head is computed anew at these anchors alone, so that the backward pass is theirs alone, too.

        gt_boxes: B x G x 4; gt_valid: B x G; sizes: B x 2 (height, width) without padding; seeds: B.
        """
        shapes = level_shapes(features)
        anchors = torch.cat(self.anchors(shapes))  # N x 4
        padded_sizes = (sizes + self.pad_divisor - 1) // self.pad_divisor * self.pad_divisor
        matches = match(
            anchors,
            self.anchors.valid(shapes, padded_sizes),
            gt_boxes,
            gt_valid,
            positive_iou=self.positive_iou,
            negative_iou=self.negative_iou,
            min_positive_iou=self.min_positive_iou,
        )
        samples = sample(
            matches,
            seeds,
            number=self.samples,
            positive_fraction=self.positive_fraction,
            salt=SAMPLING_SALT,
            choose=self.choose,
        )
        logits, deltas = self.outputs_at(samples.indices, features)
        return _sample_losses(samples, matches, anchors, gt_boxes, logits.float(), deltas.float())

    def outputs_at(self, index: Tensor, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """What `forward` gives for some anchors: B x S -> logits B x S, deltas B x S x 4."""
        ratios = self.anchors.per_position
        rows, inside = around(index // ratios, level_shapes(features))
        patches = as_table(features).index_select(0, rows.flatten()).view(*rows.shape, -1)
        patches = patches.masked_fill(~inside[..., None], 0)
        weight = self.rpn_conv.weight.permute(0, 2, 3, 1).flatten(1)  # in the patches' order
        hidden = F.relu(F.linear(patches.flatten(2), weight, self.rpn_conv.bias), inplace=True)
        logits = F.linear(hidden, self.rpn_cls.weight.flatten(1), self.rpn_cls.bias)
        deltas = F.linear(hidden, self.rpn_reg.weight.flatten(1), self.rpn_reg.bias)
        ratio = (index % ratios)[..., None]
        own = ratio[..., None].expand(-1, -1, 1, 4)
        return logits.gather(2, ratio).squeeze(2), deltas.view(*index.shape, ratios, 4).gather(2, own).squeeze(2)

    @torch.no_grad()
    def proposals(self, logits: Sequence[Tensor], deltas: Sequence[Tensor], *, sizes: Tensor) -> Proposals:
        """The best boxes of each image, after suppression within each level, clipped to `sizes` (B x 2)."""
        nms_pre = self.nms_pre_train if self.training else self.nms_pre_test
        shapes = level_shapes(logits)
        scores, boxes = [], []
        for anchors, logit, delta in zip(self.anchors(shapes), _flat_logits(logits), _flat_deltas(deltas), strict=True):
            score, index = logit.float().sigmoid().topk(min(nms_pre, len(anchors)), dim=1)  # B x K
            scores.append(score)
            boxes.append(box_ops.decode(anchors[index], _take(delta, index).float()))
        level_sizes = [score.shape[1] for score in scores]
        score, box = torch.cat(scores, dim=1), box_ops.clip(torch.cat(boxes, dim=1), sizes[:, None])
        valid = (box[..., 2] > box[..., 0]) & (box[..., 3] > box[..., 1])
        one_call = not (box.device.type == "cpu" if self.compact is None else self.compact)
        keep = batched_nms(box, score, valid, level_sizes=level_sizes, iou=self.nms_iou, one_call=one_call)
        return _best(box, score, keep, self.max_proposals)


def _sample_losses(
    samples: Samples, matches: Tensor, anchors: Tensor, gt_boxes: Tensor, logits: Tensor, deltas: Tensor
) -> dict[str, Tensor]:
    """Of the sampled anchors' logits (B x S) and deltas (B x S x 4)."""
    index, positive = samples.indices, samples.positive
    anchor = anchors[index]
    gt = _take(gt_boxes, matches.gather(1, index).clamp(min=0))
    target = box_ops.encode(anchor, torch.where(positive[..., None], gt, anchor))
    cross_entropy = F.binary_cross_entropy_with_logits(logits, positive.float(), reduction="none")
    negative = samples.valid & ~positive
    # An image without positives or negatives counts as having one (SamplingResult of the recipes' code).
    number = (positive.sum(dim=1).clamp(min=1) + negative.sum(dim=1).clamp(min=1)).sum()
    return {
        "loss_rpn_cls": (cross_entropy * samples.valid).sum() / number,
        "loss_rpn_bbox": ((deltas - target).abs() * positive[..., None]).sum() / number,
    }


def _best(boxes: Tensor, scores: Tensor, keep: Tensor, number: int) -> Proposals:
    score, index = scores.masked_fill(~keep, -1).topk(min(number, scores.shape[1]), dim=1)
    valid = score >= 0
    box = _take(boxes, index).masked_fill(~valid[..., None], 0)
    return Proposals(boxes=box, scores=score.clamp(min=0), valid=valid)


def _flat_logits(logits: Sequence[Tensor]) -> list[Tensor]:
    """Each level B x N, in the anchors' order."""
    return [level.permute(0, 2, 3, 1).flatten(1) for level in logits]


def _flat_deltas(deltas: Sequence[Tensor]) -> list[Tensor]:
    """Each level B x N x 4, in the anchors' order."""
    return [level.permute(0, 2, 3, 1).reshape(len(level), -1, 4) for level in deltas]


def _take(values: Tensor, index: Tensor) -> Tensor:
    """values (B x N x 4) at index (B x K) -> B x K x 4."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))
