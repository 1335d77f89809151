"""Code that makes a layer fast at inference.

Each operator here has a definition in plain PyTorch (its portable twin: any device, any shape), and may have
faster implementations for a device. All of them keep one contract, are held to it by one test, and are
called through one function; which of them runs is a matter of where the tensors are. Inference only: no gradients.
"""
