"""`fairway doctor`, and the labels that it can write."""
