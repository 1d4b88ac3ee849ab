"""Many jobs on one machine: `local` is the pool, `plugins` is the door Hydra 1.3 comes through."""
