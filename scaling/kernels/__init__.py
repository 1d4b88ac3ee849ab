"""What torch is slow at on a CPU when models are small, in C++: attention, GELU MLPs, the loss over the vocabulary.

Each function of `ops` gives torch's own result to a few units in the last place, differentiable once, and is torch's
own wherever the kernels do not apply: other devices and types, autocast, torch.compile, odd widths, no compiler.
"""
