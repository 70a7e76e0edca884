"""Uploads to the Hub, each with a card of ours where the repository has none."""

import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from ..modeling.components import Croco3DModel
from ..modeling.dust3r import Dust3rImageProcessor
from .auto import MODELS
from .cards import TrainingFacts, adapter_card, model_card

MAX_SHARD_SIZE = "50GB"


def push_model(
    model: Croco3DModel,
    repo_id: str,
    *,
    processor: Dust3rImageProcessor | None = None,
    facts: TrainingFacts | None = None,
    tags: list[str] | None = None,
    subfolder: str = "",
    max_shard_size: int | str = MAX_SHARD_SIZE,
    **options: Any,
) -> str:
    """Uploads a whole model with its image processor, or a component, and a card.

    Args:
        model: what to upload.
        repo_id: the repository, such as "org/name"; it is created where it does not exist.
        processor: of a whole model; the one its config asks for where it is `None`.
        facts: what the card is to say of the training.
        tags: for the card, beside those that the model has anyway.
        subfolder: of the repository, to write the model into.
        max_shard_size: above which weights are written in several files.
        **options: see `push_folder`.

    Returns:
        address of the commit.

    Raises:
        OSError: if the Hub refuses.
    """

    def write(folder: Path) -> None:
        model.save_pretrained(folder, max_shard_size=max_shard_size)
        if type(model.config) in MODELS:
            own = processor or Dust3rImageProcessor.from_model_config(model.config)
            own.save_pretrained(folder)

    def card(name: str) -> str:
        return model_card(model, name, facts, tags or [], subfolder)

    return push_folder(write, repo_id, card, subfolder=subfolder, **options)


def push_processor(
    processor: Dust3rImageProcessor, repo_id: str, *, subfolder: str = "", **options: Any
) -> str:
    """Uploads an image processor alone; see `push_model` and `push_folder`."""
    return push_folder(processor.save_pretrained, repo_id, None, subfolder=subfolder, **options)


def push_adapter(
    model: Any,
    repo_id: str,
    *,
    facts: TrainingFacts | None = None,
    tags: list[str] | None = None,
    subfolder: str = "",
    **options: Any,
) -> str:
    """Uploads the LoRA adapter of a peft model, without the model under it.

    `AutoCroco3D.from_pretrained(repo_id)` loads the two together; the adapter records where the
    model under it was loaded from.

    Args:
        model: a `peft.PeftModel` around one of our models.
        repo_id: the repository.
        facts: what the card is to say of the training.
        tags: for the card.
        subfolder: of the repository.
        **options: see `push_folder`.

    Raises:
        OSError: if the Hub refuses.
    """

    def card(name: str) -> str:
        return adapter_card(model, name, facts, tags or [], subfolder)

    return push_folder(model.save_pretrained, repo_id, card, subfolder=subfolder, **options)


def push_folder(
    write: Callable[[Path], Any],
    repo_id: str,
    card: Callable[[str], str] | None,
    *,
    subfolder: str = "",
    revision: str | None = None,
    private: bool | None = None,
    token: str | bool | None = None,
    create_pr: bool = False,
    commit_message: str | None = None,
    commit_description: str | None = None,
) -> str:
    """Uploads what `write` writes, in one commit.

    Args:
        write: fills the folder it is given.
        repo_id: the repository; it is created where it does not exist.
        card: makes the card of a repository that has none, from its full name.
        subfolder: of the repository.
        revision: branch to write to; it is created where it does not exist.
        private: whether a new repository is private.
        token: of an account that may write there; the one logged in by default.
        create_pr: whether to open a pull request instead of writing.
        commit_message: of the commit.
        commit_description: of the commit.

    Returns:
        address of the commit.

    Raises:
        OSError: if the Hub refuses.
    """
    api = HfApi(token=token)
    try:
        full_name = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        if revision is not None and not revision.startswith("refs/pr"):
            api.create_branch(full_name, branch=revision, exist_ok=True)
        has_card = api.file_exists(full_name, "README.md", revision=revision)
        with TemporaryDirectory() as folder:
            write(Path(folder, subfolder))
            readme = Path(folder, "README.md")
            # Adapters come with a card of peft's; a card that somebody wrote stays.
            Path(folder, subfolder, "README.md").unlink(missing_ok=True)
            if card is not None and not has_card:
                readme.write_text(card(full_name), encoding="utf-8")
            return api.upload_folder(
                repo_id=full_name,
                folder_path=os.fspath(folder),
                revision=revision,
                create_pr=create_pr,
                commit_message=commit_message or "Upload with croco3d",
                commit_description=commit_description,
            )
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status not in (401, 403):
            raise
        raise OSError(
            f"The Hub refuses to write to {repo_id!r} ({status}): log in with `hf auth login`, or "
            "pass token=..., from an account that may write there."
        ) from error
