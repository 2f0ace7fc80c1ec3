"""CFAT: a student on corrupted images, aligned to a teacher on clean ones.

Zhang, Zhang, Shan: Coarse-to-Fine Feature Alignment Transformer, IEEE TCSVT 2024, doi 10.1109/TCSVT.2024.3472122.
docs/method.md has the equations and the differences of the released code.
"""

import torch
import torch.nn.functional as F
from torch import nn

from model.bridge import BridgeVAE
from model.reid import Gather, ReIDModel, full_precision
from utils.sharding import views
from utils.structures import ModelOutput

STUDENT_VIEWS = ("corrupted", "both")
ALIGN_ON = ("class_token", "neck")


class CFAT(nn.Module):
    """Student f_S, teacher f_T without gradient and the bridge between their features.

    Args:
        student: trained on corrupted views, unless `freeze_student`.
        teacher: sees clean views, without gradient, always in eval mode (so without drop path).
        bridge: the fine head.
        student_views: "corrupted", or "both": the identity terms then see 2B rows, corrupted ones first.
        freeze_student: only the bridge learns, as in stage bridge.
        teacher_decay: after each step the teacher becomes this times itself plus the rest of the student, weights and
            BatchNorm statistics alike (Tarvainen and Valpola, Mean Teachers, NeurIPS 2017,
            https://arxiv.org/abs/1703.01780). After step n the decay is at most 1 - (n + 1)^(-2/3), as timm's: a long
            memory would keep the first steps. 1: frozen, as published.
        align_on: what is aligned: "class_token", the embedding before the neck, as published, or "neck", the neck's
            output, whose cosines spread (docs/method.md, "Collapse to one direction").

    Attributes:
        gather: see ReIDModel.
    """

    gather: Gather | None = None
    steps: torch.Tensor

    def __init__(
        self,
        student: ReIDModel,
        teacher: ReIDModel,
        bridge: BridgeVAE,
        *,
        student_views: str = "corrupted",
        freeze_student: bool = False,
        teacher_decay: float = 1.0,
        align_on: str = "class_token",
    ) -> None:
        super().__init__()
        if student_views not in STUDENT_VIEWS:
            raise ValueError(f"student_views {student_views!r}: expected one of {', '.join(STUDENT_VIEWS)}")
        if align_on not in ALIGN_ON:
            raise ValueError(f"align_on {align_on!r}: expected one of {', '.join(ALIGN_ON)}")
        self.student, self.teacher, self.bridge = student, teacher, bridge
        self.align_on = align_on
        self.student_views = student_views
        self.freeze_student = freeze_student
        self.teacher_decay = teacher_decay
        if teacher_decay < 1:
            self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        teacher.requires_grad_(False)
        if freeze_student:
            student.requires_grad_(False)
        self.train(self.training)

    @property
    def embed_dim(self) -> int:
        return self.student.embed_dim

    def train(self, mode: bool = True) -> "CFAT":
        super().train(mode)
        self.teacher.eval()
        if self.freeze_student:
            self.student.eval()
        return self

    def forward(self, batch: dict) -> ModelOutput:
        """Training forward of a batch: `images` and `corrupted` (B, 3, H, W) in [0, 1], `camids` and `viewids` (B,)."""
        images, corrupted, camids, viewids = (batch[key] for key in ("images", "corrupted", "camids", "viewids"))
        if self.training and not self.freeze_student and self.teacher_decay < 1:
            self._move_teacher()
        with torch.no_grad():
            clean = self.teacher.encode(images, camids, viewids, gather=self.gather)
        count, num_views = len(clean.embedding), 1
        if self.student_views == "both" and not self.freeze_student:
            corrupted, num_views = torch.cat([corrupted, images]), 2
            camids, viewids = camids.repeat(2), viewids.repeat(2)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze_student), views(num_views):
            output = self.student.encode(corrupted, camids, viewids, gather=self.gather)
        target, aligned = self._aligned(clean), self._aligned(output)  # (B, D), (N, D)
        with full_precision(images.device):
            bridge = self.bridge(F.normalize(target, dim=1), F.normalize(aligned[:count], dim=1))
            if self.student.classifier is not None:
                features = self._features_of(bridge.corrupted_reconstruction, aligned[:count])
                bridge = bridge._replace(reconstruction_logits=self.student.classifier(features))
        assert output.patch_tokens is not None
        return output._replace(
            clean_embedding=target,
            clean_logits=clean.logits,
            clean_patch_tokens=clean.patch_tokens,
            corrupted_embedding=aligned[:count],  # sliced for each use, which fixes the order of gradients
            corrupted_logits=output.logits[:count] if output.logits is not None else None,
            corrupted_patch_tokens=output.patch_tokens[:count],
            bridge=bridge,
        )

    def _move_teacher(self) -> None:
        """Moves the teacher towards the student, which the steps before this one trained."""
        teacher, student = self.teacher.state_dict(), self.student.state_dict()  # detached, in their own memory
        names = [name for name, value in student.items() if value.is_floating_point()]
        means = [teacher[name] for name in names]
        share = (self.steps + 1) ** (-2 / 3)  # a tensor: reading it would wait for the device
        share = torch.where(self.steps > 0, share.clamp_min(1 - self.teacher_decay), 0)
        moves = torch._foreach_sub([student[name] for name in names], means)
        torch._foreach_mul_(moves, share)
        torch._foreach_add_(means, moves)
        self.steps += 1

    def _aligned(self, output: ModelOutput) -> torch.Tensor:
        return output.features if self.align_on == "neck" else output.embedding

    def _features_of(self, reconstruction: torch.Tensor, aligned: torch.Tensor) -> torch.Tensor:
        """What the classifier takes of reconstructed unit vectors (B, D): their output of the neck, or, where these are
        outputs of the neck already, the same at the length of the student's."""
        if self.align_on == "neck":
            return reconstruction * aligned.detach().norm(dim=1, keepdim=True)
        return self.student.neck_of_foreign(reconstruction)

    def extract(
        self, images: torch.Tensor, camids: torch.Tensor | None = None, viewids: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The student's test features (B, D); see ReIDModel.extract."""
        return self.student.extract(images, camids, viewids)

    def export_state(self) -> dict[str, dict[str, torch.Tensor]]:
        """What a checkpoint stores: {"model": the student, which test.py loads, "bridge": the fine head}."""
        return {"model": self.student.state_dict(), "bridge": self.bridge.state_dict()}
