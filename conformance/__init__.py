"""A conformance suite for ports of the Soprano family; see README.md beside this file."""
