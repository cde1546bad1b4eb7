"""Hostile files and dying processes: mutated models, fuzzed parsers, killed exports.

python -m tests.robustness mutants --count 8000
python -m tests.robustness fuzz --seconds 60
"""
