"""`fairway doctor`, and the labels it looks at."""
