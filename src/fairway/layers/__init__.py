"""Channel layers of the engine: the hub that every one of them delivers through."""
