"""Where given rollouts come from: a finished run, a file, or a finished run that was made from a file."""

from dataclasses import dataclass

from hydrometer.diagnosis.config import DiagnoseConfig
from hydrometer.diagnosis.given.file import RolloutFile, open_rollout_file
from hydrometer.diagnosis.given.rollouts import GivenRollouts
from hydrometer.diagnosis.given.run import FinishedRun, open_finished_run
from hydrometer.models import CausalModel
from hydrometer.runs.prompt_options import PromptOptions
from hydrometer.types import Task


@dataclass(frozen=True, slots=True)
class Sources:
    """What `--candidates-from` and `--rollouts-from` name; of both, the run gives rollouts and the file the task."""

    run: FinishedRun | None
    file: RolloutFile | None

    def resolve(self, config: DiagnoseConfig) -> DiagnoseConfig:
        """The config with the options that the sources decide.

        Raises:
            SpecError: an option that has no meaning beside a file of rollouts.
        """
        if self.file is not None:
            config = self.file.resolve(config)
        return config if self.run is None else self.run.resolve(config)

    def fit(self, config: DiagnoseConfig, student: CausalModel) -> DiagnoseConfig:
        """The config with a length limit that holds every response of a file.

        Raises:
            SpecError: see `RolloutFile.fit`.
        """
        return config if self.file is None else self.file.fit(config, student)

    def read(
        self, config: DiagnoseConfig, student: CausalModel, task: Task, prompts: PromptOptions, *, needs_demos: bool
    ) -> GivenRollouts | None:
        """The rollouts; None where the run is to sample its own.

        Raises:
            UserError: see `FinishedRun.read` and `RolloutFile.read`.
        """
        if self.run is not None:
            return self.run.read(config, student, task, prompts)
        return None if self.file is None else self.file.read(config, student, prompts, needs_demos=needs_demos)


def open_sources(config: DiagnoseConfig) -> Sources:
    """Open what the config names; models are not needed yet.

    Raises:
        UserError: a folder without a finished diagnosis, or a file that cannot be used.
    """
    return Sources(
        None if config.candidates_from is None else open_finished_run(config),
        None if config.rollouts_from is None else open_rollout_file(config.rollouts_from),
    )
