from fairway.layers.sync import group_broadcast_json, group_send


def convert(number):
    for step in ("read", "converted", "stored"):
        group_send(f"job.{number}", {"type": "job.step", "step": step}, key=f"{number} {step}")


def sold(total):
    group_broadcast_json("board.sales", {"total": total})
