from types import SimpleNamespace

from django.test import SimpleTestCase

from channels.routing import URLRouter
from channels.testing import WebsocketCommunicator

from .questions import QUESTIONS
from .rooms import ASKED, SHOWN, Quiz
from .routing import websocket_urlpatterns

RIGHT = QUESTIONS[0][2]


class Heard(Quiz):
    """A quiz by itself, which keeps what it says."""

    async def broadcast_json(self, content):
        self.said = content


async def quiz(saved=None):
    made = Heard("quiz.test")
    await made.begin(saved)
    return made


async def pass_time(quiz, seconds):
    for _ in range(round(seconds / quiz.step)):
        await quiz.tick(quiz.step)
    await quiz.publish()


class RulesTests(SimpleTestCase):
    async def test_who_is_right_and_quick_gets_more(self):
        made = await quiz()
        await made.receive({"who": "mira", "choice": RIGHT})
        await pass_time(made, 5)
        await made.receive({"who": "tom", "choice": RIGHT})
        await made.receive({"who": "eve", "choice": RIGHT + 1})
        await pass_time(made, 5)
        assert made.scores == {"mira": 20, "tom": 15, "eve": 0}

    async def test_the_first_answer_counts_and_none_after_the_end(self):
        made = await quiz()
        await made.receive({"who": "mira", "choice": RIGHT + 1})
        await made.receive({"who": "mira", "choice": RIGHT})
        await pass_time(made, ASKED)
        await made.receive({"who": "tom", "choice": RIGHT})
        await pass_time(made, SHOWN)
        assert made.scores == {"mira": 0, "tom": 0}

    async def test_the_right_answer_is_not_told_before_the_end(self):
        made = await quiz()
        await made.receive({"who": "mira", "choice": RIGHT})
        await pass_time(made, 1)
        assert "right" not in made.said
        assert made.said["answered"] == ["mira"]
        await pass_time(made, ASKED)
        assert made.said["right"] == RIGHT

    async def test_the_questions_come_round(self):
        made = await quiz()
        await pass_time(made, len(QUESTIONS) * (ASKED + SHOWN))
        assert (made.number, made.answers, made.left) == (0, {}, ASKED)

    async def test_another_process_goes_on_with_it(self):
        made = await quiz()
        await made.receive({"who": "mira", "choice": RIGHT})
        await pass_time(made, 4)
        other = await quiz(made.save())
        await pass_time(other, 6)
        assert other.scores == {"mira": 20}


async def page(name):
    async def signed_in(scope, receive, send):
        user = SimpleNamespace(username=name, pk=name, is_authenticated=bool(name))
        await URLRouter(websocket_urlpatterns)({**scope, "user": user}, receive, send)

    page = WebsocketCommunicator(signed_in, "quiz/friday/")
    connected, _ = await page.connect()
    return page if connected else None


async def heard(page, **wanted):
    while True:
        message = await page.receive_json_from()
        if wanted.items() <= message.items():
            return message


class PagesTests(SimpleTestCase):
    async def test_two_contestants_see_the_same(self):
        mira, tom = await page("mira"), await page("tom")
        for nonsense in ([], {"choice": "the first"}, {"who": "tom", "choice": None}):
            await mira.send_json_to(nonsense)
        await tom.send_json_to({"choice": RIGHT})
        for each in (mira, tom):
            message = await heard(each, answered=["tom"])
            assert message["scores"] == {"mira": 0, "tom": 0}
        await mira.disconnect()
        await tom.disconnect()

    async def test_who_has_not_signed_in_stays_outside(self):
        assert await page("") is None
