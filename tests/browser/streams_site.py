"""A page of the browser tests that misses nothing, served by `fairway tests.browser.streams_site:application`.

What is said is in a history, and who is there is presence. STREAMS_LAYER has the channel layer, as JSON. The page shows
what it gets and leaves nothing out: what comes twice is there twice. Below, it writes down who joins and leaves.
"""

from __future__ import annotations

import json
import os

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpResponse
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    CHANNEL_LAYERS={"default": json.loads(os.environ["STREAMS_LAYER"])},
    INSTALLED_APPS=["channels"],
    LOGGING_CONFIG=None,
    ROOT_URLCONF="tests.browser.streams_site",
    SECRET_KEY="not a secret",
    USE_TZ=True,
)
http = get_asgi_application()

from channels.generic.websocket import AsyncJsonWebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from fairway import AsyncGroupsMixin  # noqa: E402
from fairway.layers.sync import history  # noqa: E402

GROUP = "talk"

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<link rel="icon" href="data:,">
<title>Talk</title>
<style>
  body { font: 16px/1.5 system-ui; max-width: 40rem; margin: 2rem auto; padding: 0 1rem; }
  .here { display: flex; gap: .5rem; padding: 0; list-style: none; }
  .here li { background: #d6f0dd; border-radius: 1rem; padding: 0 .75rem; }
  .lost { color: #a00; }
  .events { color: #666; font-size: .875rem; }
</style>
<h1>Talk</h1>
<p class="state" role="status">connecting</p>
<ul class="here" aria-label="Who is here"></ul>
<ol class="said" aria-label="What was said"></ol>
<form><input aria-label="Say" autocomplete="off"> <button>Say it</button></form>
<ul class="events" aria-label="Who came and went"></ul>
<script>
const begin = PAGE_DATA;
const all = name => document.querySelector("." + name);
const add = (name, text) => {
  const item = document.createElement("li");
  item.textContent = text;
  all(name).append(item);
};
const me = new URLSearchParams(location.search).get("name");
let position = begin.position, people = {}, socket = null, unsent = new Map(), count = 0;
const run = Math.random().toString(36).slice(2);

function say(text) {
  unsent.set(`${run}-${count++}`, text);
  sendAll();
}
function sendAll() {
  if (socket?.readyState !== WebSocket.OPEN) return;
  for (const [key, text] of unsent) socket.send(JSON.stringify({key, text: `${me}: ${text}`}));
}
function showPeople() {
  all("here").replaceChildren();
  for (const name of Object.keys(people).sort()) add("here", name);
}
const on = {
  joined({recovered}) {
    all("state").textContent = recovered ? "connected" : "connected, and something is missing";
    all("state").classList.toggle("lost", !recovered);
    sendAll();
  },
  gap() { on.joined({recovered: false}); },
  said(message) {
    add("said", message.text);
    position = message.position;
  },
  sent({key}) { unsent.delete(key); },
  again() { setTimeout(sendAll, 200); },
  state(message) {
    people = message.members;
    showPeople();
  },
  diff({joined, left}) {
    for (const name of Object.keys(joined)) add("events", (name in people ? "twice: " : "") + name + " joined");
    for (const name of Object.keys(left)) add("events", (name in people ? "" : "twice: ") + name + " left");
    Object.assign(people, joined);
    for (const name of Object.keys(left)) delete people[name];
    showPeople();
  },
};
function connect() {
  const query = new URLSearchParams({name: me, since: position});
  socket = new WebSocket(`ws://${location.host}/ws/?${query}`);
  socket.onmessage = ({data}) => {
    const message = JSON.parse(data);
    on[message.kind](message);
  };
  socket.onclose = () => {
    all("state").textContent = "away";
    setTimeout(connect, 250);
  };
}
document.forms[0].onsubmit = event => {
  event.preventDefault();
  const field = event.target.querySelector("input");
  say(field.value);
  field.value = "";
};
for (const text of begin.said) add("said", text);
connect();
</script>
"""


def page(request):
    found = history(GROUP, limit=1000)
    data = {"position": found.top, "said": [event["text"] for event in found.messages]}
    return HttpResponse(PAGE.replace("PAGE_DATA", json.dumps(data)))


class Talk(AsyncGroupsMixin, AsyncJsonWebsocketConsumer):
    async def connect(self):
        await self.accept()
        recovery = await self.join(GROUP, since=self.since(GROUP))
        await self.send_json({"kind": "joined", "recovered": recovery.recovered})
        name = dict(part.split("=") for part in self.scope["query_string"].decode().split("&"))["name"]
        await self.track(GROUP, key=name)

    async def receive_json(self, content):
        try:
            await self.channel_layer.group_send(GROUP, {"type": "said", "text": content["text"]}, key=content["key"])
        except ConnectionError:
            await self.send_json({"kind": "again"})
        else:
            await self.send_json({"kind": "sent", "key": content["key"]})

    async def said(self, event):
        await self.send_json({"kind": "said", "text": event["text"], "position": event["layer.position"]})

    async def layer_gap(self, event):
        await self.send_json({"kind": "gap"})

    async def presence_state(self, event):
        await self.send_json({"kind": "state", "members": event["members"]})

    async def presence_diff(self, event):
        await self.send_json({"kind": "diff", "joined": event["joined"], "left": event["left"]})


urlpatterns = [path("", page)]

application = ProtocolTypeRouter({"http": http, "websocket": URLRouter([path("ws/", Talk.as_asgi())])})
