"""A study in Optuna's database, which other workspaces may use, too: its owner and its controller."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from harness.databases import limits, shown
from harness.errors import UserError
from harness.metrics import FVU
from harness.records.ownership import belongs_to, name_aside

NOTE = "harness:note"  # the last note that was written
NOT_ASKED_FOR = "the study no longer asks for this cell"
TRAINED_AGAIN = "the cell was trained again: a later trial has its result"


def open_storage(url: str) -> RDBStorage:
    """Open Optuna's database; a lost connection is opened again.

    Raises UserError if the database was made by another version of Optuna.
    """
    try:
        return RDBStorage(url, engine_kwargs={"pool_pre_ping": True, **limits(url)})
    except RuntimeError as error:
        raise UserError(f"{shown(url)}: {error}") from None


def create_tables(url: str) -> None:
    """Make Optuna's tables if they do not exist."""
    open_storage(url).engine.dispose()


def open_study(storage: RDBStorage, name: str, axes: str, owner: str | None) -> optuna.Study:
    """The study of this name and these axes. In Optuna axes cannot change: a study with others is renamed.

    owner: this workspace, if others may use the database, too. Raises UserError if another one owns the study.
    """
    sampler = optuna.samplers.RandomSampler()  # never asked: every trial's values are given
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        sampler=sampler,
        direction="minimize",
        load_if_exists=True,
    )
    known = study.user_attrs
    if owner is not None and known.get("owner", owner if not study.get_trials(deepcopy=False) else None) != owner:
        raise belongs_to(f"study {name!r} in Optuna's database", known.get("workspace"), "--storage")
    if known.get("axes", axes) != axes:
        set_aside(storage, study)
        return open_study(storage, name, axes, owner)
    return study


def describe_study(storage: RDBStorage, study: optuna.Study, note: str) -> None:
    """Write a study's note and its metric's name. A note edited in the dashboard stays until ours changes."""
    if storage.get_study_system_attrs(study._study_id).get(NOTE) == note:
        return
    from optuna_dashboard import save_note  # two seconds of imports

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # of the metric's name, which only labels an axis
        study.set_metric_names([FVU.axis])
    save_note(study, note)
    storage.set_study_system_attr(study._study_id, NOTE, note)


def set_aside(storage: RDBStorage, study: optuna.Study) -> None:
    """Rename a study, with the time until which it was asked for; its open trials end as failed."""
    for trial in storage.get_all_trials(study._study_id, states=(TrialState.RUNNING, TrialState.WAITING)):
        storage.set_trial_user_attr(trial._trial_id, "state", "failed")
        storage.set_trial_user_attr(trial._trial_id, "reason", NOT_ASKED_FOR)
        storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
    name = name_aside(study.study_name, optuna.get_all_study_names(storage))
    with storage.engine.begin() as connection:  # Optuna itself renames no study
        connection.execute(
            text("UPDATE studies SET study_name = :name WHERE study_id = :study"),
            {"name": name, "study": study._study_id},
        )


def set_attributes(storage: RDBStorage, attributes: Mapping[int, Mapping[str, Any]]) -> None:
    """Set user attributes of trials, by their ids in the database, finished or not, in one transaction.

    Optuna's own way takes a transaction for each, and is closed for finished trials: but only the report knows
    which of them are reported.
    """
    rows = [
        {"trial": trial, "name": name, "value": json.dumps(value)}
        for trial, values in attributes.items()
        for name, value in values.items()
    ]
    if not rows:
        return
    table = "trial_user_attributes"
    with storage.engine.begin() as connection:
        connection.execute(text(f"DELETE FROM {table} WHERE trial_id = :trial AND key = :name"), rows)
        connection.execute(
            text(f"INSERT INTO {table} (trial_id, key, value_json) VALUES (:trial, :name, :value)"), rows
        )


def retire(storage: RDBStorage, trial: int) -> None:
    """Have a trial, by its id in the database, count no more, since its cell has been trained again.

    Optuna itself changes no finished trial, and its best trial and plots include all that are complete.
    """
    with storage.engine.begin() as connection:
        connection.execute(text("UPDATE trials SET state = 'FAIL' WHERE trial_id = :trial"), {"trial": trial})
        connection.execute(text("DELETE FROM trial_values WHERE trial_id = :trial"), {"trial": trial})
    set_attributes(storage, {trial: {"state": "failed", "reason": TRAINED_AGAIN}})


class ControllerLock:
    """On a PostgreSQL server, a lock that lasts as long as its connection; with SQLite the lock file suffices."""

    def __init__(self, engine: Engine, study: str) -> None:
        self._engine = engine
        self._key = int.from_bytes(hashlib.sha256(f"harness {study}".encode()).digest()[:8], signed=True)
        self._connection: Connection | None = None

    def held(self) -> bool:
        """Whether this process holds the lock; takes it if it can, also again after the connection was lost."""
        if self._engine.dialect.name != "postgresql":
            return True
        if self._connection is not None:
            try:
                self._connection.execute(text("SELECT 1"))
                return True
            except DBAPIError:
                self._connection.invalidate()
                self._connection.close()
                self._connection = None
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        if connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": self._key}):
            self._connection = connection
            return True
        connection.close()
        return False

    def release(self) -> None:
        """Release it for the next controller."""
        if self._connection is not None:
            self._connection.invalidate()
            self._connection.close()
            self._connection = None
