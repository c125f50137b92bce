"""See pyinotifyd at work: a rule with a delay, a command and a job of your own, on a directory made for it.

    pyinotifyd -c examples/quickstart.py

makes ./quickstart with an inbox, drops a first file into it a second after the start, and tells what to try next.
QUICKSTART_DIR names another directory; QUICKSTART_DEMO=0 drops no file.
"""

import asyncio
import hashlib
import logging
import os
import re
import shlex
import threading
import time
from pathlib import Path

# -- A place to play -------------------------------------------------------------------------------------------------

top = Path(os.environ.get("QUICKSTART_DIR", "quickstart")).absolute()
inbox = top / "inbox"
done = top / "done"
inbox.mkdir(parents=True, exist_ok=True)
commands_log = top / "commands.log"
commands_log.touch()
(top / ".gitignore").write_text("*\n")

# -- What happens to a file that arrives in the inbox ------------------------------------------------------------------

# A command, at once. Braces are replaced by quoted values.
note = ShellScheduler(
    cmd="echo {maskname} {pathname} >> " + shlex.quote(str(commands_log)),
    logname="command",
)


# A coroutine, at once. It may wait as long as it likes, with await; others run meanwhile.
async def fingerprint(event: Event, task_id: str) -> None:
    data = Path(event.pathname).read_bytes()
    await asyncio.sleep(0.5)
    logging.info(f"{event.name} has {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()[:16]}")


look = TaskScheduler(job=fingerprint, logname="job")

# A rule, as soon as nobody has touched the file for three seconds. src_re is matched against the whole path; what
# follows the parentheses must be the end of it, so names in subdirectories don't match.
move = FileManagerScheduler(
    rules=[
        FileManagerRule(
            action="move",
            src_re=f"^{re.escape(str(inbox))}/(?P<name>[^/]+)$",
            dst_re=f"{done}/\\g<name>",
            auto_create=True,
            overwrite=True,
        )
    ],
    delay=3,
    logname="rule",
)

# -- Which events start or cancel what ---------------------------------------------------------------------------------

pyinotifyd = Pyinotifyd(
    watches=[
        Watch(
            path=str(inbox),
            event_map={
                "IN_CLOSE_WRITE": [note, look, move],
                "IN_MOVED_TO": [note, look, move],
                "IN_MODIFY": Cancel(move),
                "IN_DELETE": Cancel(move),
                "IN_MOVED_FROM": Cancel(move),
            },
        )
    ],
    shutdown_timeout=10,
)

# -- Something to look at ----------------------------------------------------------------------------------------------


def drop_a_file() -> None:
    # The daemon begins to watch when it has read all of this file: who is too early tries again.
    notes = commands_log.stat().st_size
    time.sleep(1)
    while commands_log.stat().st_size == notes:
        (inbox / "hello.txt").write_text("Hello from pyinotifyd.\n")
        time.sleep(2)


if os.environ.get("QUICKSTART_DEMO", "1") != "0":
    # This sleep blocks a thread of its own, not the jobs.
    threading.Thread(target=drop_a_file, daemon=True).start()

shown = os.path.relpath(top)
print(f"""
  Files that you put into {shown}/inbox are noted in {shown}/commands.log, fingerprinted in this log,
  and moved to {shown}/done when nobody touched them for three seconds. In another terminal:

      cp /etc/hostname {shown}/inbox/           watch it go
      date >> {shown}/inbox/diary                again and again: each time the three seconds begin anew
      rm {shown}/inbox/diary                     in time: the move is cancelled

  Ctrl-C ends the daemon; a waiting move is still made.
""")
