"""Speed beside `soprano-tts` and ONNX Runtime GenAI, measured in alternation."""
