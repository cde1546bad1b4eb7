"""Models -> graphs for other runtimes."""
