"""Ports that run as processes of their own: messages, the client, and a server for Python ports."""
