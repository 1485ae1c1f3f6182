"""The engine's channel layers, and the hub that all of them deliver through."""
