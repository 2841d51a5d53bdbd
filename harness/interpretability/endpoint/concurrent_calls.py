"""Making many calls at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from harness.errors import UserError
from harness.interpretability.endpoint.client import Client, Reply
from harness.interpretability.endpoint.prompts import Prompt

GRACE = 10.0  # seconds to wait for answers that are under way when the user stops the run


def make_all(
    prompts: Iterable[tuple[str, Prompt]], client: Client, concurrency: int, keep: Callable[[str, Reply], object]
) -> None:
    """Send prompts, so many at a time, and hand each reply with its prompt's key to `keep`, in this thread.

    A prompt is taken only when it can be sent at once. After an error, whoever raises it, nothing more is sent;
    what is under way is still kept, and then the error is raised.
    """
    under_way: dict[Future[Reply], str] = {}

    def collect() -> None:
        done, _ = wait(under_way, return_when=FIRST_COMPLETED)
        failures = [failure for future in done if (failure := _settle(future, under_way, keep))]
        if failures:
            raise failures[0]

    with ThreadPoolExecutor(concurrency) as pool:
        try:
            for key, prompt in prompts:
                under_way[pool.submit(client.complete, prompt)] = key
                while len(under_way) >= concurrency:
                    collect()
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
