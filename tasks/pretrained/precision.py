"""The precision in which a base's frozen weights are stored: loading options, and what quantisation needs."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any, Literal

from tasks.errors import TaskError

if TYPE_CHECKING:
    import torch

    from adapters.backbone import Compute

BasePrecision = Literal["fp32", "bf16", "fp16", "nf4", "int8"]
QUANTISED = ("nf4", "int8")


def dtype_of(precision: str | None) -> torch.dtype:
    """The dtype of weights that are not quantised; None and "no" are fp32."""
    import torch

    return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision or "fp32", torch.float32)


def compute_of(precision: BasePrecision | None, device: torch.device) -> Compute:
    """The autocast dtype in which weights of this precision can be used alone, before a run sets its own."""
    if precision in ("bf16", "fp16"):
        return precision
    return half_precision() if precision in QUANTISED and device.type == "cuda" else "no"


def half_precision() -> Literal["bf16", "fp16"]:
    """The 16-bit dtype of this machine's GPU: bf16 if it computes in it (from Ampere on), else fp16."""
    import torch

    here = torch.cuda.is_available() and not torch.cuda.is_bf16_supported(including_emulation=False)
    return "fp16" if here else "bf16"


def check_quantisation(precision: BasePrecision | None, device: torch.device) -> None:
    """Raise TaskError if bitsandbytes or a CUDA GPU is missing for a quantised base."""
    if precision not in QUANTISED:
        return
    if importlib.util.find_spec("bitsandbytes") is None:
        raise TaskError(
            f"--task.base-precision {precision} needs bitsandbytes, which is not installed: pip install "
            '"adapter-testbed[quantised]", or choose bf16'
        )
    if device.type != "cuda":
        raise TaskError(f"--task.base-precision {precision} needs a CUDA GPU: choose bf16, or leave it out")


def loaded_dtype(precision: BasePrecision | None, device: torch.device) -> torch.dtype:
    """The dtype of the weights that are not quantised."""
    return dtype_of(compute_of(precision, device) if precision in QUANTISED else precision)


def loading_options(precision: BasePrecision | None, device: torch.device, config: Any) -> dict[str, Any]:
    """The arguments of `from_pretrained` beside the dtype; `config` is the library's BitsAndBytesConfig.

    nf4 is QLoRA's format with double quantisation (Dettmers et al. 2023, arXiv 2305.14314, section 3), int8 LLM.int8()
    (Dettmers et al. 2022, arXiv 2208.07339).
    """
    if precision not in QUANTISED:
        return {}
    check_quantisation(precision, device)
    if precision == "int8":
        return {"quantization_config": config(load_in_8bit=True), "device_map": {"": str(device)}}
    settings = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
    quantised = config(load_in_4bit=True, bnb_4bit_compute_dtype=dtype_of(half_precision()), **settings)
    return {"quantization_config": quantised, "device_map": {"": str(device)}}
