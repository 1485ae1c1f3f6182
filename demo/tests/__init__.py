"""Tests of the demo that need no browser: ``python manage.py test`` in the folder of ``manage.py``."""
