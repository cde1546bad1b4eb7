"""Model folders: what is read, what is rejected, and how it is downloaded."""
