from __future__ import annotations

from django.contrib.auth import get_user_model
from django.test import Client, TestCase

from people.models import Person

PASSWORD = "deep-water-7"


class NameTests(TestCase):
    def name_of(self, client: Client) -> str:
        return Person.objects.get(pk=client.session["person"]).name

    def test_a_visitor_has_a_name_from_the_first_page_on(self) -> None:
        self.client.get("/")

        self.assertRegex(self.name_of(self.client), r"^\w+ \d+$")

    def test_the_first_name_is_in_the_visitors_language(self) -> None:
        self.client.get("/", headers={"accept-language": "zh-CN"})

        self.assertRegex(self.name_of(self.client), r"^[一-鿿]+ \d+$")

    def test_a_chosen_name_is_kept_and_tidied(self) -> None:
        self.client.post("/you/", {"name": "  Mira   of the  Sea "})

        self.assertEqual(self.name_of(self.client), "Mira of the Sea")

    def test_two_people_cannot_have_the_same_name_in_other_letters(self) -> None:
        Client().post("/you/", {"name": "Mira"})

        response = self.client.post("/you/", {"name": "ＭＩＲＡ"})

        self.assertContains(response, "This name is taken. Please choose another one.")

    def test_names_with_markup_are_refused(self) -> None:
        response = self.client.post("/you/", {"name": "<b>Mira</b>"})

        self.assertContains(response, "A name must start with a letter or digit and cannot contain special characters.")


class AccountTests(TestCase):
    def register(self, client: Client, username: str = "tom") -> None:
        client.post("/you/register/", {"username": username, "password1": PASSWORD, "password2": PASSWORD})

    def test_a_guest_who_registers_stays_the_same_person(self) -> None:
        self.client.get("/")
        guest = self.client.session["person"]

        self.register(self.client)

        self.assertEqual(self.client.session["person"], guest)
        person = Person.objects.get(pk=guest)
        self.assertEqual((person.name, person.user.get_username()), ("tom", "tom"))

    def test_logging_out_and_in_leads_back_to_the_same_person(self) -> None:
        self.register(self.client)
        person = self.client.session["person"]

        self.client.post("/you/logout/")
        self.client.get("/")
        stranger = self.client.session["person"]
        self.client.post("/you/login/", {"username": "tom", "password": PASSWORD})

        self.assertNotEqual(stranger, person)
        self.assertEqual(self.client.session["person"], person)

    def test_a_guests_name_cannot_become_an_account_of_somebody_else(self) -> None:
        Client().post("/you/", {"name": "Tom"})

        self.register(self.client)

        self.assertFalse(get_user_model().objects.exists())

    def test_an_account_made_elsewhere_does_not_take_a_guests_name(self) -> None:
        Client().post("/you/", {"name": "tom"})
        user = get_user_model().objects.create_user("tom", password=PASSWORD)

        self.client.post("/you/login/", {"username": "tom", "password": PASSWORD})

        self.assertEqual(Person.objects.get(user=user).name, f"tom @{user.pk}")

    def test_a_short_password_is_refused_in_the_visitors_language(self) -> None:
        form = {"username": "tom", "password1": "x1", "password2": "x1"}

        response = self.client.post("/you/register/", form, headers={"accept-language": "zh-CN"})

        self.assertNotContains(response, "too short")
        self.assertContains(response, "你的密码必须包含至少 8 个字符。")
