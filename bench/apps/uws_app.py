"""uWebSockets (C++) through socketify, with the paths of `site_app.py` that need no Django.

The hall is uWebSockets' own publish and subscribe; the room encodes JSON for every member, as a handler does.
"""

import gc
import json
import sys
import time

from socketify import App, AppListenOptions, CompressOptions, OpCode

room = {}


def echo(ws, message, opcode):
    text = message if isinstance(message, str) else message.decode()
    ws.send(json.dumps({"message": json.loads(text)["message"]}), OpCode.TEXT, True)


def to_room(ws, message, opcode):
    text = json.loads(message if isinstance(message, str) else message.decode())["message"]
    for member in list(room.values()):
        member.send(json.dumps({"message": text}), OpCode.TEXT)


def join_room(ws):
    room[ws.ws] = ws  # the native socket: what `close` gets is another wrapper of it


def leave_room(ws, code, message):
    room.pop(ws.ws, None)


def socket(**handlers):
    return {
        "compression": CompressOptions.SHARED_COMPRESSOR,
        "max_payload_length": 1 << 20,
        "max_backpressure": 16 << 20,
        "idle_timeout": 120,
        "send_pings_automatically": True,
        **handlers,
    }


def hello(response, request):
    response.end("Hello, world")


def collect(response, request):
    begin = time.perf_counter()
    gc.collect()
    response.end(json.dumps({"pause_ms": (time.perf_counter() - begin) * 1000}))


app = App()
app.ws("/echo/", socket(message=echo))
app.ws("/room/", socket(open=join_room, message=to_room, close=leave_room))
app.ws("/room-sender/", socket(message=to_room))
app.ws("/hall/", socket(open=lambda ws: ws.subscribe("hall"), message=lambda ws, message, opcode: None))
app.ws("/hall-sender/", socket(message=lambda ws, message, opcode: app.publish("hall", message, OpCode.TEXT)))
app.get("/hello/", hello)
app.get("/collect/", collect)
app.listen(AppListenOptions(port=int(sys.argv[1]), host="127.0.0.1"), lambda options: None)
app.run()
