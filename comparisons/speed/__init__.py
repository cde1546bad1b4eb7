"""Speed beside `soprano-tts`: both in processes of their own, measured in turns."""
