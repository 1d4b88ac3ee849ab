"""The training step as Lightning sees it: one call runs a chunk of optimizer steps.

Manual optimization, because several steps share a call; nothing in a step waits for the device, the loss is read
once a window. Everything a resumed run needs is in the checkpoint: weights, optimizer, step, window, random state.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor

from scaling.config import TrainConfig
from scaling.models.base import LanguageModel
from scaling.training import schedule
from scaling.training.curve import Row, windows
from scaling.training.loss import lm_loss
from scaling.training.optim import build_optimizer
from scaling.training.sharding import shard


class Diverged(RuntimeError):
    """The training loss stopped being a number."""


class Training(LightningModule):
    """Trains `model` by `config`; `rows` are the finished windows of the curve.

    `identity` says which run on which data this is: a checkpoint of another is refused.
    """

    def __init__(
        self,
        model: LanguageModel,
        config: TrainConfig,
        tokens_per_epoch: int,
        validate: Callable[[], float],
        validate_at: set[int],
        identity: str,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model = model
        self.config = config
        self.tokens_per_epoch = tokens_per_epoch
        self.validate, self.validate_at, self.identity = validate, validate_at, identity
        self.steps_done = 0
        self.rows: list[Row] = []
        self._ends = windows(config.steps, config.steps_before)
        self._window_loss: Tensor | None = None
        self._window_start = 0

    def configure_model(self) -> None:
        """Lightning calls this once the ranks have met."""
        if self.device_mesh is not None:
            shard(self.model, self.device_mesh["data_parallel"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return build_optimizer(self.model, self.config.optim, self.config.lr)

    def training_step(self, chunk: Tensor, batch_idx: int) -> None:
        """chunk (steps, B, T + 1) int64 token ids, of B this rank's share; ends where a window ends or before."""
        optimizer = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, torch.optim.Optimizer)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        clip, total = self.config.optim.grad_clip, self.config.steps
        losses = []
        for batch in chunk:
            lr = self.config.lr * schedule.factor(self.steps_done, total, self.config.schedule)
            for group in optimizer.param_groups:
                group["lr"] = lr * group["factor"]
            losses.append(self._backward(batch))
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(parameters, clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            self.steps_done += 1
        chunk_loss = torch.stack(losses).double().sum()
        self._window_loss = chunk_loss if self._window_loss is None else self._window_loss + chunk_loss
        if self.steps_done in self._ends:
            self._close_window(lr)

    def _backward(self, batch: Tensor) -> Tensor:
        """batch (B, T + 1): gradients of the mean loss, in micro-batches and over all ranks; the mean over these B."""
        parts = batch.split(self.config.trainer.micro_batch or len(batch))
        strategy = self.trainer.strategy
        losses = []
        for n, part in enumerate(parts, 1):
            loss = lm_loss(self.model(part[:, :-1]), self.model.head.weight, part[:, 1:]) / len(parts)
            if isinstance(strategy, DDPStrategy):  # gradients travel once a step, with the last micro-batch
                with strategy.block_backward_sync() if n < len(parts) else nullcontext():
                    self.manual_backward(loss)
            else:
                loss.backward()
            losses.append(loss.detach())
        return losses[0] if len(losses) == 1 else torch.stack(losses).sum()

    def _mean_over_ranks(self, loss: Tensor) -> float:
        return float(self.trainer.strategy.reduce(loss.clone(), reduce_op="mean"))

    def _close_window(self, lr: float) -> None:
        assert self._window_loss is not None
        c, step, first = self.config, self.steps_done, self._window_start
        loss = self._mean_over_ranks(self._window_loss) / (step - first)
        if not loss < float("inf"):
            raise Diverged(f"training loss is {loss} between steps {first} and {step}")
        tokens = step * c.batch_size * c.seq_len
        phases = {schedule.phase(s, c.steps, c.schedule) for s in range(first, step)}
        row = Row(
            step=step,
            tokens=tokens,
            flops=tokens * self.model.flops_per_token(),
            loss_train=loss,
            loss_val=self.validate() if step in self.validate_at else None,
            lr=lr,
            phase=next((p for p in ("decay", "warmup") if p in phases), "stable"),
            epoch=tokens / self.tokens_per_epoch,
        )
        self._window_loss, self._window_start = None, step
        self.rows.append(row)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["training"] = {
            "identity": self.identity,
            "steps_done": self.steps_done,
            "rows": [vars(row) for row in self.rows],
            "window_loss": None if self._window_loss is None else self._mean_over_ranks(self._window_loss),
            "window_start": self._window_start,
            "rng": torch.get_rng_state(),
            "threads": torch.get_num_threads(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["training"]
        if state["identity"] != self.identity:
            raise RuntimeError(f"last.ckpt is of {state['identity']}, this run is {self.identity}: remove that file")
        self.steps_done = state["steps_done"]
        self.rows = [Row(**row) for row in state["rows"]]
        loss = state["window_loss"]
        self._window_loss = None if loss is None else torch.tensor(loss, dtype=torch.float64, device=self.device)
        self._window_start = state["window_start"]
        torch.set_rng_state(state["rng"])
        torch.set_num_threads(state["threads"])  # sums in another order end in other bits
