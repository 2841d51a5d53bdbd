"""Making many calls at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, Future, wait
from threading import Thread

from harness.errors import UserError
from harness.interpretability.endpoint.client import Client, Reply
from harness.interpretability.endpoint.prompts import Prompt

GRACE = 10.0  # seconds to wait for answers that are under way when the user stops the run


def make_all(
    prompts: Mapping[str, Prompt],
    client: Client,
    concurrency: int,
    refused: Callable[[Sequence[str]], str | None],
    keep: Callable[[Mapping[str, Reply]], object],
) -> None:
    """Send prompts, so many at a time, and hand replies by their prompts' keys to `keep`, in this thread, at once.

    refused: why not all of these may be under way together, the last one being next; it is asked again when there
    is a reply more, and an error when there is none to wait for. After an error nothing more is sent; what is
    under way is still kept, and then the error is raised.
    """
    under_way: dict[Future[Reply], str] = {}

    def collect(when: str, seconds: float | None = None) -> BaseException | None:
        """Keep the replies that are there; the first error of the other calls that have ended."""
        done, _ = wait(under_way, seconds, when)
        ended = {under_way.pop(future): future for future in done}
        failures = [failure for future in ended.values() if (failure := future.exception())]
        keep({key: future.result() for key, future in ended.items() if not future.exception()})
        return failures[0] if failures else None

    def collect_some() -> None:
        if failure := collect(FIRST_COMPLETED):
            raise failure

    try:
        for key, prompt in prompts.items():
            while len(under_way) == concurrency or (why := refused([*under_way.values(), key])):
                if not under_way:
                    raise UserError(why)
                collect_some()
            under_way[_start(client, prompt)] = key
        while under_way:
            collect_some()
    except BaseException as reason:
        client.stopped.set()
        collect(ALL_COMPLETED, None if isinstance(reason, UserError) else GRACE)
        raise


def _start(client: Client, prompt: Prompt) -> Future[Reply]:
    """Make a call in a thread of its own, for which the end of the process does not wait.

    An executor would: its threads are joined at the end, and one that waits for an answer cannot be woken.
    """
    future: Future[Reply] = Future()

    def call() -> None:
        try:
            future.set_result(client.complete(prompt))
        except BaseException as failure:
            future.set_exception(failure)

    Thread(target=call, daemon=True).start()
    return future
