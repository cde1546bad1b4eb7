"""Agreement with other implementations: soprano-tts and the Qwen3 of transformers."""
