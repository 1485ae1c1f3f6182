"""Many deadlines on one timer of the event loop."""
