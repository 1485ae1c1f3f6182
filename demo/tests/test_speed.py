"""The page about speed, without a crowd: that needs a server that listens (tests/browser/test_speed.py)."""

from __future__ import annotations

import asyncio
import logging
from typing import Any
from unittest.mock import patch

from django.test import SimpleTestCase, TransactionTestCase, override_settings

from speed.consumers import crowds_of, pulses
from speed.crowd import Crowd, is_ticket, ticket
from speed.logs import WithoutVisitors
from tests.sockets import Visitor, bare_socket, receive_type

PATH = "/ws/speed/"


class PanelTests(TransactionTestCase):
    def setUp(self) -> None:
        crowds_of.cache_clear()
        pulses.__init__(burst=60, per_second=60)
        self.mira = Visitor("Mira")
        self.tom = Visitor("Tom")

    async def test_a_pulse_reaches_everybody(self) -> None:
        mira, tom = self.mira.socket(PATH), self.tom.socket(PATH)
        await mira.connect()
        await tom.connect()
        page = (await receive_type(mira, "hello"))["page"]
        visitor = bare_socket(f"/ws/speed/visitor/?ticket={ticket()}")
        self.assertTrue((await visitor.connect())[0])

        await mira.send_json_to({"type": "pulse", "id": 7})

        for socket in (mira, tom, visitor):
            self.assertEqual(await receive_type(socket, "pulse"), {"type": "pulse", "page": page, "id": 7})
        for socket in (mira, tom, visitor):
            await socket.disconnect()

    async def test_figures_come_by_themselves(self) -> None:
        socket = self.mira.socket(PATH)
        await socket.connect()
        hello, figures = await receive_type(socket, "hello"), await receive_type(socket, "figures")

        self.assertEqual((hello["http"], hello["tls"]), ("1.1", False))
        self.assertEqual((figures["sockets"] > 0, figures["dropped"]), (True, 0))
        await socket.disconnect()

    async def test_more_pulses_than_allowed_are_left_out(self) -> None:
        socket = self.mira.socket(PATH)
        await socket.connect()
        with patch("speed.consumers.pulses.allow", side_effect=[True, False, True]):
            for number in range(3):
                await socket.send_json_to({"type": "pulse", "id": number})
            arrived = [(await receive_type(socket, "pulse"))["id"] for _ in range(2)]

        self.assertEqual(arrived, [0, 2])
        await socket.disconnect()

    async def test_nonsense_and_what_is_switched_off_are_answered(self) -> None:
        socket = self.mira.socket(PATH)
        await socket.connect()
        for content in ([], {"type": "pulse", "id": -1}, {"type": "pulse", "id": 2**31}, {"type": "pulse", "id": "1"}):
            await socket.send_json_to(content)
            self.assertEqual((await receive_type(socket, "notice"))["code"], "unknown")
        with override_settings(SPEED_VISITORS=0):
            await socket.send_json_to({"type": "bring"})
            self.assertEqual((await receive_type(socket, "notice"))["code"], "noCrowd")
        await socket.disconnect()

    async def test_strangers_are_not_let_in(self) -> None:
        for path in (PATH, "/ws/speed/visitor/", "/ws/speed/visitor/?ticket=crowd:forged:forged"):
            self.assertFalse((await bare_socket(path).connect())[0])

    def test_a_ticket_does_not_last(self) -> None:
        with patch("django.core.signing.time.time", return_value=0):
            old = ticket()

        self.assertFalse(is_ticket(old))
        self.assertTrue(is_ticket(ticket()))


class CrowdTests(SimpleTestCase):
    async def test_visitors_that_were_never_let_in_leave_with_the_others(self) -> None:
        left = asyncio.Semaphore(0)

        async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            left.release()
            writer.close()

        async def tell(content: dict[str, Any]) -> None:
            pass

        crowd = Crowd()
        server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
        with patch("speed.crowd.SECONDS", 0.2):
            crowd.come(3, *server.sockets[0].getsockname(), False, tell)
            async with asyncio.timeout(10):
                for _ in range(3):
                    await left.acquire()
        server.close()

    def test_only_what_visitors_do_is_left_out_of_the_log(self) -> None:
        visitor = "/ws/speed/visitor/"
        left_out = [
            f'127.0.0.1:5 "WS {visitor}?ticket=***" connected',
            f'[::1]:5 "WS {visitor}?ticket=***" disconnected 1000 9.8s',
            f"WebSocket HANDSHAKING {visitor} [127.0.0.1:5]",
            f"\x1b[32;1mWebSocket CONNECT {visitor} [127.0.0.1:5]\x1b[0m",
            f"WebSocket DISCONNECT {visitor} [127.0.0.1:5]",
        ]
        written = [
            f'127.0.0.1:5 "WS {visitor}?ticket=***" rejected 403',
            f"WebSocket REJECT {visitor} [127.0.0.1:5]",
            f'127.0.0.1:5 "GET {visitor} HTTP/1.1" 404 0 0.001',
            '127.0.0.1:5 "WS /ws/speed/" connected',
            f'127.0.0.1:5 "WS /x?\\"WS {visitor}\\" connected" rejected 404',
            "WebSocket CONNECT /ws/speed/ [127.0.0.1:5]",
            f"HTTP GET /x WebSocket CONNECT {visitor} [ 404 [0.01, 127.0.0.1:5]",
        ]

        kept = [text for text in left_out + written if WithoutVisitors().filter(logging.makeLogRecord({"msg": text}))]

        self.assertEqual(kept, written)
