"""Many deadlines on one timer."""
