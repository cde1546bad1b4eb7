"""What the laws share: inputs, cases, and comparisons of several outputs."""
