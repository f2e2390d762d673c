"""The front matter of a model page: what the Hub reads from it, and what the Hub refuses."""

import re

import yaml

Json = bool | int | float | str | list["Json"] | dict[str, "Json"] | None  # what JSON writes

# https://huggingface.co/docs/hub/repositories-licenses
LICENSES = """
afl-3.0 agpl-3.0 apache-2.0 apple-amlr apple-ascl artistic-2.0 bigcode-openrail-m bigscience-bloom-rail-1.0
bigscience-openrail-m bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5
cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0
cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0
cdla-permissive-2.0 cdla-sharing-1.0 creativeml-openrail-m deepfloyd-if-license ecl-2.0 epl-1.0 epl-2.0
etalab-2.0 eupl-1.1 eupl-1.2 fair-noncommercial-research-license gemma gfdl gpl gpl-2.0 gpl-3.0 h-research
intel-research isc lgpl lgpl-2.1 lgpl-3.0 lgpl-lr llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 lppl-1.3c mit
mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1 openmdw-1.0 openrail openrail++ osl-3.0 other pddl postgresql unknown
unlicense wtfpl zlib
"""

# https://huggingface.co/tasks
PIPELINE_TAGS = """
any-to-any audio-classification audio-text-to-text audio-to-audio automatic-speech-recognition depth-estimation
document-question-answering feature-extraction fill-mask graph-ml image-classification image-feature-extraction
image-segmentation image-text-to-text image-to-3d image-to-image image-to-text image-to-video keypoint-detection
mask-generation object-detection question-answering reinforcement-learning robotics sentence-similarity
summarization table-question-answering tabular-classification tabular-regression text-classification
text-generation text-ranking text-to-3d text-to-audio text-to-image text-to-speech text-to-video
text2text-generation time-series-forecasting token-classification translation unconditional-image-generation
video-classification video-text-to-text visual-document-retrieval visual-question-answering
voice-activity-detection zero-shot-classification zero-shot-image-classification zero-shot-object-detection
"""

FRONT_MATTER = re.compile(r"\A\s*---\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
LANGUAGE = re.compile(r"[a-z]{2,3}|code|multilingual")
DATASET = re.compile(r"[\w.-]+(?:/[\w.-]+)?")


def card_data(content: str) -> dict[str, Json]:
    """The front matter of a page, empty where it is missing or cannot be read."""
    match = FRONT_MATTER.search(content)
    try:
        data = yaml.safe_load(match[1]) if match else None
    except yaml.YAMLError:
        return {}
    return data if isinstance(data, dict) else {}


def as_list(value: Json) -> list[Json]:
    """A value of a field that holds one thing or several."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def card_tags(data: dict[str, Json]) -> list[str]:
    """The tags by which the Hub's search finds a page."""
    tags = [*as_list(data.get("library_name")), *as_list(data.get("tags")), *as_list(data.get("language"))]
    tags += [f"dataset:{name}" for name in as_list(data.get("datasets"))]
    tags += [f"base_model:{name}" for name in as_list(data.get("base_model"))]
    tags += [f"license:{name}" for name in as_list(data.get("license"))]
    return list(dict.fromkeys(str(tag) for tag in tags))


def check_card(content: str) -> tuple[list[str], list[str]]:
    """Return the errors of a page's front matter, and what is merely odd."""
    match = FRONT_MATTER.search(content)
    if match is None:
        return [], ["empty or missing yaml metadata in repo card"]
    try:
        data = yaml.safe_load(match[1])
    except yaml.YAMLError as error:
        return [f"The front matter is not YAML: {error}"], []
    if not isinstance(data, dict):
        return ["The front matter must be a mapping"], []

    errors = []
    for field in ("language", "datasets", "base_model"):
        if not is_list_of_text(as_list(data.get(field))):
            errors.append(f'"{field}" must be a string or a list of strings')
    for field in ("tags", "metrics"):
        if not is_list_of_text(data.get(field) or []):
            errors.append(f'"{field}" must be a list of strings')
    for field in ("library_name", "pipeline_tag", "license"):
        if not isinstance(data.get(field, ""), str):
            errors.append(f'"{field}" must be a string')
    errors += [f'"language": {name} is no ISO 639 code' for name in unlike(LANGUAGE, data.get("language"))]
    errors += [f'"datasets": {name} is no id of a dataset' for name in unlike(DATASET, data.get("datasets"))]
    for field, known in (("license", LICENSES.split()), ("pipeline_tag", PIPELINE_TAGS.split())):
        value = data.get(field)
        if isinstance(value, str) and value not in known:
            errors.append(f'"{field}": {value} is not one of {", ".join(known)}')
    if "model-index" in data:
        errors += check_model_index(data["model-index"])
    return errors, []


def is_list_of_text(value: Json) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def unlike(pattern: re.Pattern[str], value: Json) -> list[str]:
    """The strings of a field that the pattern does not match as a whole."""
    return [item for item in as_list(value) if isinstance(item, str) and not pattern.fullmatch(item)]


def check_model_index(index: Json) -> list[str]:
    """Name what is missing by its place, such as "model-index[0].results[1].dataset.name"."""
    errors: list[str] = []

    def require(value: Json, place: str, *fields: str) -> None:
        for field in fields:
            if not isinstance(value, dict) or value.get(field) in (None, ""):
                errors.append(f'"{place}.{field}" is required')

    def entries(value: Json, place: str) -> list[tuple[str, Json]]:
        if not isinstance(value, list):
            errors.append(f'"{place}" must be a list')
            return []
        return [(f"{place}[{position}]", item) for position, item in enumerate(value)]

    def part(value: Json, field: str) -> Json:
        return value.get(field) if isinstance(value, dict) else None

    for place, model in entries(index, "model-index"):
        require(model, place, "name")
        for result_place, result in entries(part(model, "results"), f"{place}.results"):
            require(part(result, "task"), f"{result_place}.task", "type")
            require(part(result, "dataset"), f"{result_place}.dataset", "type", "name")
            for metric_place, metric in entries(part(result, "metrics"), f"{result_place}.metrics"):
                require(metric, metric_place, "type", "value")
    return errors
