"""The page of `explain` in a real browser, where playwright and Chromium are installed."""

import shutil

import pytest

from vanilla_transformer.explain import explain
from vanilla_transformer.loading import load_model

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")]
SHOWN = "[...document.querySelectorAll('table.map')].map(each => each.innerText).join()"


@pytest.mark.timeout(600)
def test_the_page_works_without_network(model_folder, tmp_path):
    model, tokenizer = load_model(model_folder)
    explain(model, tokenizer, "the house is red").save(tmp_path / "page.html")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        for width in (1280, 390):
            page = browser.new_context(viewport={"width": width, "height": 800}, offline=True).new_page()
            page.set_default_timeout(200_000)
            said, asked = [], []
            page.on("console", lambda message, said=said: said.append(message.text))
            page.on("pageerror", lambda error, said=said: said.append(str(error)))
            page.on("request", lambda request, asked=asked: asked.append(request.url))
            page.goto(f"file://{tmp_path / 'page.html'}")
            for stage in ("Source", "Encoder 2", "Target", "Decoder 3", "Output", "Beams"):
                page.click(f"#map button:text-is('{stage}')")
                assert page.evaluate("document.documentElement.scrollWidth") <= width, stage
            assert "Finished hypotheses" in page.inner_text("main")
            page.click("#map button:text-is('Decoder 3')")
            before = page.evaluate(SHOWN)
            page.select_option("#choose-head", "2")
            assert page.evaluate(SHOWN) != before
            page.keyboard.press("Escape")
            page.evaluate("document.activeElement.blur()")
            page.keyboard.press("1")  # the first head again
            assert page.evaluate(SHOWN) == before
            page.keyboard.press("ArrowRight")
            assert "Linear and softmax" in page.inner_text("main")
            assert not said
            assert all(url.startswith(("file:", "data:")) for url in asked), asked
        browser.close()
