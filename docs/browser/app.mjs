// The page: text in, translations with their scores out, and the attention of the one that is looked at.
import { checkSettings, languageName, textTokenizer, translateWith } from './model.mjs';

const element = (id) => document.getElementById(id);
const page = Object.fromEntries(
  ['form', 'label', 'text', 'go', 'state', 'results', 'list', 'layer', 'head', 'map', 'caption'].map((id) => [id, element(id)]));
const base = new URL('.', location.href).href;

/** transformers.js, told to take every file from beside this page: by default they come from other hosts. */
async function loadLibrary() {
  const library = await import('./vendor/transformers.min.js').catch(() => {
    throw new Error('vendor/transformers.min.js is missing');
  });
  const { env } = library;
  Object.assign(env, { allowRemoteModels: false, allowLocalModels: true, localModelPath: './', useBrowserCache: false });
  env.backends.onnx.wasm.wasmPaths = {
    mjs: `${base}vendor/ort-wasm-simd-threaded.mjs`, wasm: `${base}vendor/ort-wasm-simd-threaded.wasm`,
  };
  return library;
}

async function readJson(name) {
  const answer = await fetch(`model/${name}`);
  if (!answer.ok) throw new Error(`model/${name} is missing`);
  return answer.json();
}

async function load() {
  const library = await loadLibrary();
  const { AutoModelForSeq2SeqLM, AutoTokenizer, Tensor } = library;
  const facts = await readJson('vanilla_transformer.json');
  checkSettings(facts.generation_config);
  const [tokenizer, config] = await Promise.all(['tokenizer.json', 'tokenizer_config.json'].map(readJson));
  const suffix = facts.precision === 'int8' ? '_quantized' : '';
  for (const name of ['encoder_model', 'decoder_model_merged']) {
    const answer = await fetch(`model/onnx/${name}${suffix}.onnx`, { method: 'HEAD' });
    if (!answer.ok) throw new Error(`model/onnx/${name}${suffix}.onnx is missing`);
  }
  const model = await AutoModelForSeq2SeqLM.from_pretrained(
    'model', { dtype: suffix ? 'q8' : 'fp32', device: 'wasm' });
  return {
    facts, model, Tensor,
    reader: textTokenizer(library, { tokenizer, config }),
    writer: await AutoTokenizer.from_pretrained('model'),
    card: await readJson('model_card.json').catch(() => ({})),
  };
}

/** Name the languages to readers and to screen readers. */
function nameLanguages({ source_lang: source, target_lang: target }) {
  if (source) {
    page.text.lang = source;
    page.label.textContent = `Text in ${languageName(source)}, one sentence`;
  }
  if (target) page.list.lang = target;
}

let loaded = null;
let shown = null;  // the hypothesis whose attention is drawn, and the ids of its source

function say(text, isError = false) {
  page.state.textContent = text;
  page.state.classList.toggle('error', isError);
}

export const textOf = (tokens) => loaded.writer.decode(tokens, { skip_special_tokens: true });
const tokenOf = (id) => loaded.writer.decode([id]) || '∅';

export const translate = (text, onStep) => translateWith(loaded, text, onStep);

/** A table of the attention from each token of a translation to each token of its source. */
function draw() {
  if (!shown) return;
  const { ids, hypothesis: { tokens, attention } } = shown;
  const layer = Number(page.layer.value), head = page.head.value;
  const weightsOf = (step) => {
    const heads = attention[step][layer];
    if (head !== 'mean') return [...heads[Number(head)]];
    return ids.map((_, place) => heads.reduce((sum, each) => sum + each[place], 0) / heads.length);
  };
  const cell = (kind, text, scope) => {
    const made = document.createElement(kind);
    made.textContent = text;
    if (scope) made.scope = scope;
    return made;
  };
  const row = (cells) => {
    const made = document.createElement('tr');
    made.append(...cells);
    return made;
  };
  const top = row([cell('td', ''), ...ids.map((id) => cell('th', tokenOf(id), 'col'))]);
  const rows = tokens.map((id, step) => row([cell('th', tokenOf(id), 'row'), ...weightsOf(step).map((weight) => {
    const made = cell('td', weight.toFixed(2));
    made.style.setProperty('--weight', weight.toFixed(3));
    return made;
  })]));
  page.caption.textContent = `Attention of “${textOf(tokens)}” to its source: each row sums to 1.`;
  page.map.replaceChildren(page.caption, top, ...rows);
}

function choose(ids, hypothesis) {
  shown = { ids, hypothesis };
  for (const button of page.list.querySelectorAll('button'))
    button.setAttribute('aria-pressed', String(button.hypothesis === hypothesis));
  draw();
}

function list(ids, finished) {
  page.list.replaceChildren(...finished.map((hypothesis) => {
    const item = document.createElement('li'), button = document.createElement('button');
    const score = document.createElement('span');
    button.type = 'button';
    button.hypothesis = hypothesis;
    score.className = 'score';
    score.textContent = hypothesis.score.toFixed(4);
    button.append(textOf(hypothesis.tokens) || '(nothing)', ' ', score);
    button.onclick = () => choose(ids, hypothesis);
    item.append(button);
    return item;
  }));
}

page.form.onsubmit = async (event) => {
  event.preventDefault();
  if (!loaded || page.go.disabled) return;
  page.results.hidden = true;
  if (!page.text.value.trim()) return say('Type a sentence.', true);
  page.go.disabled = true;
  say('Translating …');
  const begun = performance.now();
  let drawn = begun;
  try {
    const { ids, finished } = await translate(page.text.value, async (source, running, done) => {
      const best = running[0] ?? done[0];
      if (!best || performance.now() - drawn < 50) return;
      page.results.hidden = false;
      page.list.replaceChildren();
      shown = { ids: source, hypothesis: best };
      draw();
      await new Promise((resume) => setTimeout(resume));  // let the page show it
      drawn = performance.now();
    });
    list(ids, finished);
    choose(ids, finished[0]);
    page.results.hidden = false;
    say(`${textOf(finished[0].tokens)} (${Math.round(performance.now() - begun)} ms)`);
  } catch (error) {
    page.results.hidden = true;
    say(error instanceof RangeError ? error.message : `The translation failed: ${error.message}`, true);
  } finally {
    page.go.disabled = false;
  }
};
page.text.onkeydown = (event) => {
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) page.form.requestSubmit();
};
page.layer.onchange = page.head.onchange = draw;

try {
  const begun = performance.now();
  loaded = await load();
  const { decoder_layers: layers, num_attention_heads: heads } = loaded.facts.config;
  const option = (value, text) => new Option(text, value);
  page.layer.replaceChildren(...Array.from({ length: layers }, (_, i) => option(i, `${i + 1}`)));
  page.layer.value = String(layers - 1);
  page.head.replaceChildren(option('mean', 'mean'), ...Array.from({ length: heads }, (_, i) => option(i, `${i + 1}`)));
  nameLanguages(loaded.card);
  page.go.disabled = false;
  document.documentElement.dataset.ready = 'true';
  say(`Ready in ${Math.round(performance.now() - begun)} ms. Nothing that you type leaves this machine.`);
} catch (error) {
  document.documentElement.dataset.ready = 'false';
  say(`The model cannot be loaded: ${error.message}. Run \`make browser\` and load the page again.`, true);
}
