"""The demo in a real browser, where gradio, playwright and Chromium are installed."""

import shutil
import socket

import pytest

from vanilla_transformer.demo import build_app
from vanilla_transformer.loading import load_model

playwright = pytest.importorskip("playwright.sync_api")
pytest.importorskip("gradio")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")]
PICTURE = "document.querySelector('#attention img')?.src"


@pytest.mark.timeout(900)
def test_the_app_translates_shows_heads_and_refuses(model_folder):
    app = build_app(*load_model(model_folder))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    app.launch(server_name="127.0.0.1", server_port=port, share=False, prevent_thread_lock=True, quiet=True)
    try:
        with playwright.sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.set_default_timeout(240_000)
            asked = []
            page.on("request", lambda request: asked.append(request.url))
            page.goto(f"http://127.0.0.1:{port}")
            page.fill("#text textarea", "the house is red")
            page.click("#translate")
            page.wait_for_function(f"{PICTURE} !== undefined")
            assert "score" in page.inner_text("#best")
            before = page.evaluate(PICTURE)
            page.click("#head label:has-text('2')")
            page.wait_for_function(f"{PICTURE} !== {before!r}")
            page.fill("#text textarea", "")
            page.click("#translate")
            page.wait_for_selector("text=Type a sentence.")
            page.fill("#text textarea", "a" * 10_000)
            page.click("#translate")
            page.wait_for_selector("text=at most 1,000 characters")
            assert all(url.startswith((f"http://127.0.0.1:{port}", "data:", "blob:")) for url in asked), asked
            browser.close()
    finally:
        app.close()
