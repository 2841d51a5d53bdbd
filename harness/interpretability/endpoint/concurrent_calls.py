"""Making many calls at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from harness.errors import UserError
from harness.interpretability.endpoint.client import Client, Reply
from harness.interpretability.endpoint.prompts import Prompt

GRACE = 10.0  # seconds to wait for answers that are under way when the user stops the run


def make_all(
    prompts: Mapping[str, Prompt],
    client: Client,
    concurrency: int,
    refused: Callable[[Sequence[str]], str | None],
    keep: Callable[[str, Reply], object],
) -> None:
    """Send prompts, so many at a time, and hand each reply with its prompt's key to `keep`, in this thread.

    refused: why not all of these may be under way together, the last one being next; it is asked again when there
    is a reply more, and an error when there is none to wait for. After an error nothing more is sent; what is
    under way is still kept, and then the error is raised.
    """
    under_way: dict[Future[Reply], str] = {}

    def collect() -> None:
        done, _ = wait(under_way, return_when=FIRST_COMPLETED)
        failures = [failure for future in done if (failure := _settle(future, under_way, keep))]
        if failures:
            raise failures[0]

    with ThreadPoolExecutor(concurrency) as pool:
        try:
            for key, prompt in prompts.items():
                while len(under_way) == concurrency or (why := refused([*under_way.values(), key])):
                    if not under_way:
                        raise UserError(why)
                    collect()
                under_way[pool.submit(client.complete, prompt)] = key
            while under_way:
                collect()
        except BaseException as reason:
            client.stopped.set()
            done, _ = wait(under_way, None if isinstance(reason, UserError) else GRACE)
            for future in done:
                _settle(future, under_way, keep)
            client.close()  # ends what is still under way
            raise


def _settle(
    future: Future[Reply], under_way: dict[Future[Reply], str], keep: Callable[[str, Reply], object]
) -> BaseException | None:
    """Hand over what has come of a call; or the error, if there is one."""
    key = under_way.pop(future)
    failure = future.exception()
    if failure is None:
        keep(key, future.result())
    return failure
