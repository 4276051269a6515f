"""Adapter files, ours and those of diffusers, kohya and peft.

`lora` and `prefix` convert one method to and from every format that it has; `native` reads our own
`adapter.safetensors`. Only safetensors files are read; a truncated file, a number that is not finite or a shape that
does not fit is an AdapterError. Nothing here knows the methods' classes: a method hands over tensors, ranks and scales.
"""
