"""`python -m tokens.people` makes the users, and prints their tokens as JSON."""

import json

import django

django.setup()

from django.contrib.auth.models import User
from rest_framework.authtoken.models import Token
from rest_framework_simplejwt.tokens import AccessToken

people = {}
for name in ("ann", "ben"):
    user = User.objects.create_user(name)
    people[name] = {"id": user.pk, "token": Token.objects.create(user=user).key, "jwt": str(AccessToken.for_user(user))}
print(json.dumps(people))
