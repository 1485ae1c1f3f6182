"""Django's management commands of the app, and what makes `runserver` one of them."""
