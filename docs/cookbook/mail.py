"""Mail when a task fails: run a command for each file and send its output if it did not end with status 0."""

import asyncio
import logging
from email.message import EmailMessage

ORDERS = "/srv/orders"
COMMAND = "/usr/local/bin/import-order"
TO = "operator@example.org"


async def import_order(event: Event, task_id: str) -> None:
    process = await asyncio.create_subprocess_exec(
        COMMAND, event.pathname, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    status = await process.wait()
    if status != 0:
        logging.error(f"{task_id}: {COMMAND} ended with status {status} for {event.pathname}")
        await send_mail(event, task_id, status, output)


async def send_mail(event: Event, task_id: str, status: int, output: bytes) -> None:
    message = EmailMessage()
    message["To"] = TO
    message["Subject"] = f"pyinotifyd: import failed with status {status}"
    # backslashreplace: a file name may hold bytes that no mail can.
    text = f"File: {event.pathname}\nTask: {task_id}\n\n".encode("utf-8", "backslashreplace") + output
    message.set_content(text.decode("utf-8", "replace"))
    sendmail = await asyncio.create_subprocess_exec("sendmail", "-t", "-i", stdin=asyncio.subprocess.PIPE)
    await sendmail.communicate(message.as_bytes())


orders = TaskScheduler(job=import_order, delay=1, max_jobs=8, logname="orders")

pyinotifyd = Pyinotifyd(shutdown_timeout=60)
pyinotifyd.add_watch(
    path=ORDERS,
    event_map={"IN_CLOSE_WRITE": orders, "IN_MOVED_TO": orders, "IN_DELETE": Cancel(orders)},
)
