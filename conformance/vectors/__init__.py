"""Vector packs: what each stage is given and must return, as files."""
