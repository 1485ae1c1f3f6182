"""The management commands of the app, and the code that makes its `runserver` the one that runs."""
