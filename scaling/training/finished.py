"""Was this run finished before, and are its files whole? Answered without torch, since a sweep asks it first."""

from pathlib import Path

from scaling import records
from scaling.config import ConfigError, TrainConfig
from scaling.records import RunRecord
from scaling.training import curve

CONFIG, CONFIG_END = "config.yaml", "...\n"  # YAML's own mark of a document's end


def finished_before(config: TrainConfig, data_id: str) -> RunRecord | None:
    """The record of this very run if it finished on this data and its curve is whole.

    Raises ConfigError if it finished on other data, or left a record that another version wrote.
    """
    run_dir = config.run_dir
    if not (run_dir / records.FILE).exists():
        return None
    try:
        record = records.read(run_dir)
    except records.ForeignRecord as error:
        raise ConfigError(f"study={config.study}: {error}; choose another study=") from None
    except records.RecordError:
        return None
    if record.status != "finished":
        return None
    if record.data_id != data_id and not config.force:
        raise ConfigError(
            f"data: {run_dir} was trained on data_id={record.data_id}, this is {data_id}: "
            "choose another study=, or force=true"
        )
    return record if curve.is_whole(run_dir, record.tokens_before + record.tokens) else None


def damaged(run_dir: Path) -> list[Path]:
    """Files of a run that end too early: a power cut, a full disk or a copy that broke off leaves such."""
    found = []
    try:
        record = records.read(run_dir)
        finished = record.status == "finished"
        tokens = record.tokens_before + record.tokens if finished else None
    except records.RecordError:
        found, tokens = [run_dir / records.FILE], None
    if not curve.is_whole(run_dir, tokens):
        found.append(run_dir / curve.FILE)
    try:
        whole = (run_dir / CONFIG).read_text(encoding="utf-8").endswith(CONFIG_END)
    except (OSError, ValueError):
        whole = False
    if not whole:
        found.append(run_dir / CONFIG)
    return [path for path in found if path.is_file()]
