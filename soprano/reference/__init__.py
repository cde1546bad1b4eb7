"""The reference networks in plain PyTorch."""
