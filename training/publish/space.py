"""A demo of a model as a Space on the Hub."""

import tempfile
from pathlib import Path

from huggingface_hub import HfApi

from training.publish.hub import check_folder, explain_hub_errors
from vanilla_transformer.demo import write_space


def push_space(folder: Path, space: str, private: bool = False) -> list[str]:
    """
    Push the demo of a model; the Space is made if it is missing, and holds a copy of model and package.

    Args:
        folder: of the model.
        space: user-or-organisation/name.
        private: whether a new Space is private.

    Returns:
        a line that says where it is.

    Raises:
        HubError: if it does not arrive.
        ModelFolderError: for a folder without a whole model.
    """
    check_folder(folder)
    name = folder.resolve().name
    with tempfile.TemporaryDirectory() as temporary:
        write_space(folder, Path(temporary), name)
        api = HfApi()
        with explain_hub_errors(space):
            api.create_repo(space, repo_type="space", space_sdk="gradio", private=private, exist_ok=True)
            api.upload_folder(
                repo_id=space, repo_type="space", folder_path=temporary, commit_message=f"Add the demo of {name}"
            )
    return [f"pushed: the demo of {name}, spaces/{space}"]
