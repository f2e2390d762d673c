"""
Pages of the site that are files outside of docs/: the README, and what other pages link to.

A link such as `../benchmarks/results/demo.md` works where the repository is read. The site gets a page for each file
that is linked, a source file with its line numbers, and the link leads there. In the reference, the site has the
docstrings of each name in the place of its link.
"""

import os
import re
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "examples/README.md": "examples.md",
}
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)(#[^)\s]*)?\)")
REFERENCE = "docs/reference.md"
NAME = re.compile(r"^\* \[`(\w+)`\]\(\.\./(\S+)\.py\)$", flags=re.MULTILINE)
LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".toml": "toml", ".sh": "bash", ".cff": "yaml"}
FENCE = "`````"

uris: dict[str, str] = {}  # of files in the repository, by their path: where they are in the site


def find_target(source: str, link: str) -> str:
    """
    Return the path in the repository of what a file there links to.

    Raises:
        PluginError: if it does not exist.
    """
    target = os.path.normpath(str(PurePosixPath(source).parent / link))
    if not (ROOT / target).is_file():
        raise PluginError(f"{source} links to {link}, which is not a file.")
    return target


def show_source(path: str) -> str:
    """Return a page with a file as it is, with line numbers."""
    code = (ROOT / path).read_text(encoding="utf-8")
    language = LANGUAGES.get(Path(path).suffix, "text")
    return f'# {Path(path).name}\n\n`{path}`\n\n{FENCE}{language} linenums="1"\n{code}{FENCE}\n'


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each file outside of docs/ that is linked, and for those that such pages link to."""
    uris.clear()
    uris.update({f"docs/{file.src_uri}": file.src_uri for file in files})
    uris.update(PAGES)
    waiting = [path for path in uris if path.endswith(".md")]
    while waiting:
        source = waiting.pop()
        for link, _ in LINK.findall((ROOT / source).read_text(encoding="utf-8")):
            target = find_target(source, link)
            if target in uris:
                continue
            is_page = not target.endswith((".png", ".svg"))
            uris[target] = f"files/{target.removesuffix('.md')}.md" if is_page else f"files/{target}"
            if target.endswith(".md"):
                waiting.append(target)
    for path, uri in uris.items():
        if path.endswith(".md"):
            if not path.startswith("docs/"):
                content = (ROOT / path).read_text(encoding="utf-8")
                files.append(File.generated(config, uri, content=content))
        elif uri.endswith(".md"):
            files.append(File.generated(config, uri, content=show_source(path)))
        elif not path.startswith("docs/"):
            files.append(File.generated(config, uri, abs_src_path=str(ROOT / path)))
    return files


def name_docstrings(match: re.Match[str]) -> str:
    """Return the line by which mkdocstrings shows a name: of the module, or of the class or function in it."""
    name, module = match[1], match[2].removesuffix("/__init__").replace("/", ".")
    is_module = match[2].endswith(f"/{name}")
    return f"::: {module}" if is_module else f"::: {module}.{name}"


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead the links of a page to where the files are in the site."""
    paths = {uri: path for path, uri in uris.items()}
    source = paths[page.file.src_uri]
    if not source.endswith(".md"):
        return markdown
    if source == REFERENCE:
        markdown = NAME.sub(name_docstrings, markdown)
    folder = PurePosixPath(page.file.src_uri).parent

    def lead(match: re.Match[str]) -> str:
        target = uris[find_target(source, match[1])]
        anchor = re.sub(r"^#L(\d+).*", r"#__codelineno-0-\1", match[2] or "")
        return f"]({os.path.relpath(target, folder)}{anchor})"

    return LINK.sub(lead, markdown)
