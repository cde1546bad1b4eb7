"""The names of graph inputs and outputs, as community exports of causal models have them."""


def cache_names(layers: int) -> list[tuple[str, str]]:
    """Input and output name of every cache tensor, keys before values, layer by layer."""
    return [
        (f"past_key_values.{layer}.{part}", f"present.{layer}.{part}")
        for layer in range(layers)
        for part in ("key", "value")
    ]
