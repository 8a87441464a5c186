"""Attention without cuDNN, which builds a plan for every new length, and the record of that setting."""

from __future__ import annotations

import torch

from mergesmith.evaluators.inference.attention_backend import disable_cudnn_attention
from mergesmith.optimizer.session.versions import versions


def test_cudnn_attention_is_off_and_recorded() -> None:
    before = torch.backends.cuda.cudnn_sdp_enabled()
    try:
        disable_cudnn_attention()
        assert not torch.backends.cuda.cudnn_sdp_enabled()
        assert versions()["cudnn_attention"] == "off"
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)
