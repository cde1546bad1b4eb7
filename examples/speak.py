"""Speaks a text to a WAV file and tells how long it took: `python examples/speak.py TEXT OUT`."""

import sys
from time import perf_counter

from soprano import SopranoTTS


def main(text: str, path: str, *model: str) -> None:
    voice = SopranoTTS(*model)
    start = perf_counter()
    audio = voice.infer(text, out_path=path, max_new_tokens=100)
    seconds = perf_counter() - start
    print(f"{path}: {audio.duration:.2f} s of sound in {seconds:.2f} s on {voice.backend.name}")


if __name__ == "__main__":
    main(*sys.argv[1:])
