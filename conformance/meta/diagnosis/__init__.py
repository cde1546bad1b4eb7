"""Tests of the commands that find what is wrong."""
