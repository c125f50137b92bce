"""One mail for a burst of files: who delivers a hundred files is not followed by a hundred mails.

The mail is sent when nothing has come for a minute, after a quarter of an hour at the latest. If it cannot be sent, it
is tried again, and names what has come meanwhile in a mail of its own. A file that is gone by then is not named.
"""

import asyncio
from email.message import EmailMessage

INCOMING = "/srv/incoming"
TO = "operator@example.org"
QUIET_S = 60


async def send_mail(events: list[Event], task_id: str) -> None:
    message = EmailMessage()
    message["To"] = TO
    message["Subject"] = f"{len(events)} new files in {INCOMING}"
    # backslashreplace: a file name may hold bytes that no mail can.
    text = "".join(f"{event.pathname}\n" for event in events).encode("utf-8", "backslashreplace")
    message.set_content(text.decode())
    sendmail = await asyncio.create_subprocess_exec("sendmail", "-t", "-i", stdin=asyncio.subprocess.PIPE)
    await sendmail.communicate(message.as_bytes())
    if sendmail.returncode != 0:
        raise OSError(f"sendmail ended with status {sendmail.returncode}")


mail = TaskScheduler(
    job=send_mail,
    batch=Batch(quiet=QUIET_S, max_wait=15 * 60, max_files=10_000),
    timeout=60,
    retry=Retry(times=5, delay=60),
    logname="mail",
)

pyinotifyd = Pyinotifyd(shutdown_timeout=2 * QUIET_S)
pyinotifyd.add_watch(
    path=INCOMING,
    event_map={"IN_CLOSE_WRITE": mail, "IN_MOVED_TO": mail, "IN_DELETE": Cancel(mail), "IN_MOVED_FROM": Cancel(mail)},
    rec=True,
    auto_add=True,
)
