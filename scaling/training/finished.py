"""Was this run finished before? Answered from files alone, so that a sweep knows without loading torch."""

from scaling import records
from scaling.config import ConfigError, TrainConfig
from scaling.records import RunRecord


def finished_before(config: TrainConfig, data_id: str) -> RunRecord | None:
    """The record of this very run if it finished on this data. Raises ConfigError if it did on other data."""
    if not (config.run_dir / records.FILE).exists():
        return None
    record = records.read(config.run_dir)
    if record.status != "finished":
        return None
    if record.data_id != data_id and not config.force:
        raise ConfigError(
            f"data: {config.run_dir} was trained on data_id={record.data_id}, this is {data_id}: "
            "choose another study=, or force=true"
        )
    return record
