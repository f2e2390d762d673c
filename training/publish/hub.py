"""A trained model on the Hub: weights, code, tokenizer, results and card in one commit, which gets a tag."""

import contextlib
import dataclasses
import fnmatch
import json
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, hf_hub_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    RepositoryNotFoundError,
)
from transformers import AutoConfig
from transformers.dynamic_module_utils import get_relative_imports

import vanilla_transformer
from vanilla_transformer import VanillaTransformerConfig
from vanilla_transformer.conversion.marian import export_marian
from vanilla_transformer.errors import HubError, ModelCardError, ModelFolderError
from vanilla_transformer.loading import TOKENIZER_FILES, auto_class_of, check_model_folder, load_model
from vanilla_transformer.model_card import FACTS, PICTURES, RESULTS, ModelPlace, folder_card

# Files that a repository gets. Checkpoints, logs, and settings, a token among them perhaps, stay where they are.
PUSHED = (
    "config.json",
    "generation_config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    *TOKENIZER_FILES,
    "*_vanilla_transformer.py",
    RESULTS,
    FACTS,
    *PICTURES,
    "LICENSE*",
    "NOTICE*",
)
# Files of a repository that are deleted when a push has no such file any more.
REPLACED = ("*.safetensors", "*.safetensors.index.json", "*_vanilla_transformer.py", *PICTURES)
# Files that a repository without a model may have.
HARMLESS = frozenset({".gitattributes", "README.md"})


@contextlib.contextmanager
def explain_hub_errors(repo: str, remedy: str = "") -> Iterator[None]:
    """
    Say in words what the Hub or the way to it has refused.

    Raises:
        HubError: for whatever the client raises.
    """
    try:
        yield
    except (HubError, ModelCardError):
        raise
    except LocalTokenNotFoundError as error:
        raise HubError("There is no token for the Hub. Run `hf auth login`, or set HF_TOKEN.") from error
    except HFValidationError as error:
        raise HubError(f"{repo!r} is not the name of a repository: {str(error).rstrip('.')}.") from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        said = str(error.server_message or error).strip().partition("\n")[0]
        reasons = {
            401: "The Hub does not know the token. Run `hf auth login` again, or set HF_TOKEN.",
            403: f"The token may not write to {repo}. Make one that may, or name a repository of your own.",
            412: f"{repo} was changed by someone else while this was pushed. Push again.",
        }
        reason = reasons.get(status or 0, f"The Hub refused this for {repo}.")
        raise HubError(f"{reason}{remedy} (It says {status}: {said})") from error
    except Exception as error:  # the card, connections, storage: each library has its own
        said = " ".join(str(error).split()).removesuffix(".")
        raise HubError(f"The push to {repo} failed: {type(error).__name__}: {said}.{remedy}") from error


@dataclass
class Target:
    """
    A repository that can be pushed to.

    Attributes:
        name: with its user or organisation.
        exists: whether it is there already.
    """

    name: str
    exists: bool


def prepare_repositories(name: str, native: str | None = None, private: bool = False) -> tuple[str, str | None]:
    """
    See that a model can be pushed: token, permission, names, and what the repositories hold. Those missing are made.

    Args:
        name: of the model's repository: "name" for the token's own user, or "user-or-organisation/name".
        native: of that for the same model as a stock `MarianMTModel`.
        private: whether new repositories are private.

    Returns:
        the whole names.

    Raises:
        HubError: for whatever would make the push fail; then nothing was made.
    """
    target = check_repository(name, private, VanillaTransformerConfig.model_type)
    targets = [target] if native is None else [target, check_repository(native, private, "marian")]
    if native is not None and targets[1].name == target.name:
        raise HubError(f"Both forms of the model would go to {target.name}. Name two repositories.")
    for each in targets:
        if not each.exists:
            with explain_hub_errors(each.name):
                HfApi().create_repo(each.name, private=private)
    return target.name, None if native is None else targets[1].name


def check_repository(name: str, private: bool, model_type: str) -> Target:
    """
    See that a model of some type can be pushed to a repository, or that it can be made.

    Raises:
        HubError: for whatever would make the push fail.
    """
    api = HfApi()
    with explain_hub_errors(name):
        user = api.whoami()
        repo = name if "/" in name else f"{user['name']}/{name}"
        if user.get("auth", {}).get("accessToken", {}).get("role") == "read":
            raise HubError(f"The token may only read. Make one that may write to {repo}.")
        try:
            info = api.model_info(repo)
        except RepositoryNotFoundError:
            if repo.partition("/")[0] not in {user["name"], *(each["name"] for each in user.get("orgs", []))}:
                raise HubError(f"The token may not write to {repo}: it belongs to {user['name']}.") from None
            return Target(repo, exists=False)
    with explain_hub_errors(repo):
        api.auth_check(repo, write=True)
        if private and not info.private:
            raise HubError(f"{repo} is public, but was to be private. Make it private on its page, or name another.")
        files = {file.rfilename for file in info.siblings or []}
        if "config.json" in files:
            config = json.loads(Path(hf_hub_download(repo, "config.json", revision=info.sha)).read_text("utf-8"))
            if config.get("model_type") != model_type:
                raise HubError(
                    f"{repo} exists and holds a model of type {config.get('model_type')!r}. Name another repository."
                )
        elif others := sorted(files - HARMLESS):
            raise HubError(f"{repo} exists and holds {others[0]}, but not a model. Name another repository.")
    return Target(repo, exists=True)


def pushed_files(folder: Path) -> dict[str, Path]:
    """Name in the repository -> file, of what a model's folder has."""
    return {file.name: file for pattern in PUSHED for file in sorted(folder.glob(pattern)) if file.is_file()}


def check_folder(folder: Path) -> VanillaTransformerConfig:
    """
    The configuration of a folder that can be pushed: its readers can load all of it.

    Raises:
        ModelFolderError, HubError: if a file is missing or damaged, or it is another kind of model.
    """
    check_model_folder(folder)
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # a damaged file can make transformers raise anything
        raise ModelFolderError(f"{folder / 'config.json'} is damaged: {error}. Copy the folder again.") from error
    if not isinstance(config, VanillaTransformerConfig):
        raise HubError(f"{folder} holds a model of type {config.model_type!r}. Name a model of this package.")
    place = next((file.parent for file in package_code(folder).values()), folder)
    for code in sorted(needed_code(place, config)):
        if not (place / f"{code}.py").is_file():
            raise HubError(f"{folder} has no {code}.py, code of its model. Save it with `save_pretrained`.")
    if not (folder / "tokenizer_config.json").is_file():  # without our class its special tokens are not known
        raise HubError(f"{folder} has no tokenizer_config.json. Save the tokenizer with `save_pretrained`.")
    load_model(folder, auto_class=auto_class_of(architecture_of(config)))  # which names what is damaged
    return config


def architecture_of(config: VanillaTransformerConfig) -> str:
    """The class that a model was saved with."""
    return config.architectures[0] if config.architectures else ""


def needed_code(folder: Path, config: VanillaTransformerConfig) -> set[str]:
    """The modules that the configuration names, and those that they import from beside them."""
    pipelines = [pipeline["impl"] for pipeline in getattr(config, "custom_pipelines", {}).values()]
    found: set[str] = set()
    waiting = {reference.partition(".")[0] for reference in [*config.auto_map.values(), *pipelines]}
    while waiting:
        found |= waiting
        files = [folder / f"{code}.py" for code in waiting]
        waiting = {code for file in files if file.is_file() for code in get_relative_imports(file)} - found
    return found


def package_code(folder: Path) -> dict[str, Path]:
    """Name in the repository -> file, of the model's code as it is installed, for a folder that holds none."""
    if any(folder.glob("*.py")):
        return {}
    return {
        file.name: file for file in sorted(Path(vanilla_transformer.__file__).parent.glob("*_vanilla_transformer.py"))
    }


def next_tag(tags: Iterable[str]) -> str:
    """The first of v1, v2, ... after those that are taken."""
    numbers = [int(tag[1:]) for tag in tags if tag[:1] == "v" and tag[1:].isdigit()]
    return f"v{max(numbers, default=0) + 1}"


def push_folder(
    folder: Path,
    place: ModelPlace,
    message: str,
    described: Path | None = None,
    tagged: bool = True,
    beside: dict[str, Path] | None = None,
) -> str | None:
    """
    Push a folder in one commit, and give that a tag, which its card names.

    Args:
        place: its path is a repository as `prepare_repositories` returns it.
        message: of the commit.
        described: the folder that the card describes, if that is another one.
        tagged: whether it is a version; without, the card names none.
        beside: more files, by their names in the repository.

    Returns:
        the tag.

    Raises:
        HubError: if it does not arrive. Then nothing of it is in the repository, or all of it and no tag, and the same
            push again completes it.
        ModelCardError: for metadata that the Hub would refuse.
    """
    api, repo = HfApi(), place.path
    files = {**pushed_files(folder), **(beside or {})}
    with explain_hub_errors(repo, remedy=f" {folder} is unchanged: push it again."):
        info = api.model_info(repo)
        tag = next_tag(ref.name for ref in api.list_repo_refs(repo).tags) if tagged else None
        card = folder_card(described or folder, dataclasses.replace(place, revision=tag))
        stale = [
            file.rfilename
            for file in info.siblings or []
            if file.rfilename not in files
            and "/" not in file.rfilename  # a folder in it is not ours, or holds a checkpoint
            and any(fnmatch.fnmatch(file.rfilename, pattern) for pattern in REPLACED)
        ]
        commit = api.create_commit(
            repo,
            [
                *(CommitOperationAdd(name, str(path)) for name, path in files.items()),
                CommitOperationAdd("README.md", str(card).encode()),
                *(CommitOperationDelete(name) for name in stale),
            ],
            commit_message=message,
            parent_commit=info.sha,
        )
        if tag is not None:
            api.create_tag(repo, tag=tag, revision=commit.oid)
    return tag


def push_model(folder: Path, repo: str, native: str | None = None) -> list[str]:
    """
    Push a model, and with `native` the same as a stock `MarianMTModel`; names as `prepare_repositories` returns them.

    Returns:
        a line on each, and one with the code that loads it.
    """
    name = folder.resolve().name
    place, config = ModelPlace(repo, native=native), AutoConfig.from_pretrained(folder)
    with tempfile.TemporaryDirectory() as temporary:
        beside = package_code(folder)
        if beside:  # which the configuration names in what it is saved as
            config.save_pretrained(temporary)
            beside["config.json"] = Path(temporary) / "config.json"
        tag = push_folder(folder, place, f"Add {name}", beside=beside)
    auto_class = auto_class_of(architecture_of(config)).__name__
    lines = [
        f"pushed: {repo}, {tag}",
        f'load: {auto_class}.from_pretrained("{repo}", revision="{tag}", trust_remote_code=True)',
    ]
    if native is not None:
        with tempfile.TemporaryDirectory() as temporary:
            converted = Path(temporary) / "native"
            differences = export_marian(folder, converted)
            place = ModelPlace(native, original=repo, original_on_hub=True, differences=differences)
            tag = push_folder(converted, place, f"Add {name} as MarianMTModel", described=folder)
        lines += [
            f"pushed: {native}, {tag}",
            f'load: AutoModelForSeq2SeqLM.from_pretrained("{native}", revision="{tag}")',
            *(f"  {difference}" for difference in differences),
        ]
    return lines
