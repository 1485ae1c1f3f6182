"""A WebSocket echo that misbehaves once, in the way that its path names: to see that the generator notices."""

FIFTH = 5


async def application(scope, receive, send):
    if scope["type"] != "websocket":
        return
    fault = scope["path"].strip("/")
    await receive()
    await send({"type": "websocket.close" if fault == "refuse" else "websocket.accept"})
    count, late = 0, []
    while (event := await receive())["type"] == "websocket.receive":
        count += 1
        texts = misbehave(fault, event["text"]) if count == FIFTH else [event["text"], *late]
        late = [event["text"]] if count == FIFTH and fault == "reorder" else []
        for text in texts:
            await send({"type": "websocket.send", "text": text})
        if count == FIFTH and fault == "close":
            await send({"type": "websocket.close"})


def misbehave(fault, text):
    return {"lose": [], "reorder": [], "double": [text, text], "alter": [text.replace("a", "e")]}.get(fault, [text])
