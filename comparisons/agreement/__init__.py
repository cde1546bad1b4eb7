"""Agreement with programs that others wrote: soprano-tts and the Qwen3 of transformers."""
