"""Device kernels of Steersman and their PyTorch references: tensors in, tensors out, no vLLM.

`gate` decides once per engine step which token rows are steered, `steer` adds the directions to
the hidden states of a layer, `governor` decides about the drawn tokens, and `reference` says in
plain PyTorch what those compute that compute with reals. `layout` has the columns of their tables.
"""
