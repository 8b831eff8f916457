"""Device kernels of Steersman and their PyTorch references: tensors in, tensors out, no vLLM."""
