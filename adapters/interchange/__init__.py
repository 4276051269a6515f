"""Our adapters in the files of other tools, and theirs in ours: diffusers, kohya, peft.

`lora.py` and `prefix.py` write and read a method in every form that it has; `own.py` reads `adapter.safetensors`.
Weights are data: safetensors alone are read, and what is truncated, not finite or of another shape is an AdapterError.
"""
