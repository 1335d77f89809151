"""Keep what a run needs to go on."""

from pytorch_lightning.callbacks import ModelCheckpoint

from models.epochwise import Epochwise


class LastEpoch(Epochwise, ModelCheckpoint):
    """Writes `run_dir`/last.ckpt at the end of each training epoch: where the same command resumes."""

    def __init__(self, run_dir: str) -> None:
        super().__init__(run_dir, "last", save_on_train_epoch_end=True, enable_version_counter=False)
