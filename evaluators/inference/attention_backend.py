"""The backends of torch's attention on CUDA devices."""

from __future__ import annotations


def disable_cudnn_attention() -> None:
    """Let torch compute attention without cuDNN, in this whole process.

    On compute capability 9 and 10, torch prefers cuDNN, which builds a plan for every new batch size and key length.
    A plan takes the host tens of milliseconds, an answer needs one per token, and plans are never freed. Scores have
    other last bits without cuDNN, so runs record the setting with the versions of the libraries.
    """
    import torch  # only here, so that the driver of a run can import the package quickly

    torch.backends.cuda.enable_cudnn_sdp(False)
